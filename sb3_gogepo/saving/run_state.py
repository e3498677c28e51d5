"""What a run depends on besides model and replay buffer: global random generators and the statistics of a VecNormalize.

:class:`IterationStart` keeps them, and the model's counters, as they were at the last episode boundary.
"""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

#: attributes that change while episodes run; everything else changes between them
COUNTERS = ("num_timesteps", "ep_info_buffer", "ep_success_buffer")
STATISTICS = ("obs_rms", "ret_rms")


class IterationStart(NamedTuple):
    """The last episode boundary: ``counters`` are attributes of the model, ``run_state`` what surrounds it."""

    counters: dict[str, Any]
    run_state: dict[str, Any]


def iteration_start(model: BaseAlgorithm) -> IterationStart:
    """Remember what running episodes will change, but for the global generators, which few envs use."""
    return IterationStart(
        counters={name: copy.copy(getattr(model, name)) for name in COUNTERS},
        run_state=vec_normalize_state(model.get_vec_normalize_env()),
    )


def generator_states() -> dict[str, Any]:
    """The states of the global random generators."""
    return {"torch": th.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}


def vec_normalize_state(vec_normalize: VecNormalize | None) -> dict[str, Any]:
    """A copy of the statistics of a VecNormalize; empty without one."""
    if vec_normalize is None:
        return {}
    state: dict[str, Any] = {"vec_normalize.returns": vec_normalize.returns.copy()}
    for key, statistics in _running_statistics(vec_normalize).items():
        moments = [np.ravel(part) for part in (statistics.mean, statistics.var)]
        state[f"vec_normalize.{key}"] = np.stack(moments).astype(np.float64)
        state[f"vec_normalize.{key}.count"] = float(statistics.count)
    return state


def _running_statistics(vec_normalize: VecNormalize) -> dict[str, RunningMeanStd]:
    """Those of observations, for Dict observations one a key, and of returns; no ``obs_rms`` without ``norm_obs``."""
    found: dict[str, Any] = {key: getattr(vec_normalize, key, None) for key in STATISTICS}
    if isinstance(found["obs_rms"], dict):
        found |= {f"obs_rms.{key}": statistics for key, statistics in found["obs_rms"].items()}
    return {key: statistics for key, statistics in found.items() if isinstance(statistics, RunningMeanStd)}


def encode_run_state(state: dict[str, Any]) -> dict[str, Any]:
    """:func:`generator_states` and :func:`vec_normalize_state` together, as tensors and strings."""
    name, keys, position, has_gauss, gauss = state["numpy"]
    encoded = {key: th.from_numpy(value) if isinstance(value, np.ndarray) else value for key, value in state.items()}
    return {
        **encoded,
        "numpy": th.from_numpy(np.asarray(keys, dtype=np.int64)),
        "numpy_position": json.dumps([name, position, has_gauss, gauss]),
        "python": json.dumps(state["python"]),
    }


def restore_run_state(state: dict[str, Any], vec_normalize: VecNormalize | None) -> None:
    """Take over what :func:`encode_run_state` gave. If that fails, nothing has changed.

    :raises Exception: if it is no such state, or statistics are for other observations, or missing.
    """
    numpy_state, python_state = _decode_generator_states(state)
    statistics = {} if vec_normalize is None else _decode_statistics(state, vec_normalize)
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    th.set_rng_state(state["torch"])
    if vec_normalize is not None:
        returns = state["vec_normalize.returns"].numpy().copy()
        if returns.shape == vec_normalize.returns.shape:  # with another number of envs, they begin anew
            vec_normalize.returns = returns
        running = _running_statistics(vec_normalize)
        for key, moments in statistics.items():
            running[key].mean, running[key].var, running[key].count = moments


def _decode_generator_states(state: dict[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """States of NumPy's and Python's generator. What new generators refuse, torch's too, is refused here."""
    name, position, has_gauss, numpy_gauss = json.loads(state["numpy_position"])
    version, numbers, python_gauss = json.loads(state["python"])
    if not 0 <= position <= 624:  # NumPy would read whatever lies there
        raise ValueError(f"the position of NumPy's generator must be in [0, 624], got {position}")
    if not (math.isfinite(numpy_gauss) and math.isfinite(python_gauss or 0.0)):
        raise ValueError(f"the generators' next numbers must be finite, got {numpy_gauss} and {python_gauss}")
    numpy_state = (name, state["numpy"].numpy().astype(np.uint32), position, has_gauss, numpy_gauss)
    python_state = (version, tuple(numbers), python_gauss)
    np.random.RandomState().set_state(numpy_state)
    random.Random().setstate(python_state)
    th.Generator().set_state(state["torch"])
    return numpy_state, python_state


def _decode_statistics(state: dict[str, Any], vec_normalize: VecNormalize) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """mean, variance and count for each of the env's :func:`_running_statistics`."""
    if "vec_normalize.returns" not in state:
        raise ValueError("it holds no statistics for the env's VecNormalize: the run that saved it had none")
    decoded = {}
    for key, statistics in _running_statistics(vec_normalize).items():
        saved = state.get(f"vec_normalize.{key}")
        if saved is None or saved.shape != (2, np.size(statistics.mean)):
            raise ValueError(f"its VecNormalize statistics do not fit those of the env ({key})")
        mean, var = (part.reshape(np.shape(statistics.mean)).copy() for part in saved.numpy())
        count = float(state[f"vec_normalize.{key}.count"])
        if not ((var >= 0).all() and 0 <= count < math.inf):
            raise ValueError(f"its VecNormalize statistics are none ({key})")
        decoded[key] = (mean, var, count)
    return decoded
