"""What a run depends on besides model and replay buffer: global random generators and the statistics of a VecNormalize.

:class:`IterationStart` keeps them, and the model's counters, as they were at the last episode boundary.
"""

from __future__ import annotations

import copy
import json
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
    for key in STATISTICS:
        statistics = getattr(vec_normalize, key, None)  # there is no obs_rms without norm_obs
        if isinstance(statistics, RunningMeanStd):
            moments = [np.ravel(part) for part in (statistics.mean, statistics.var)]
            state[f"vec_normalize.{key}"] = np.stack(moments).astype(np.float64)
            state[f"vec_normalize.{key}.count"] = float(statistics.count)
    return state


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
    """Take over what :func:`encode_run_state` gave.

    :raises ValueError: if the saved statistics are for other observations, or missing.
    """
    name, position, has_gauss, gauss = json.loads(state["numpy_position"])
    version, numbers, gauss_next = json.loads(state["python"])
    if vec_normalize is not None:
        _restore_vec_normalize(state, vec_normalize)
    random.setstate((version, tuple(numbers), gauss_next))
    np.random.set_state((name, state["numpy"].numpy().astype(np.uint32), position, has_gauss, gauss))
    th.set_rng_state(state["torch"])


def _restore_vec_normalize(state: dict[str, Any], vec_normalize: VecNormalize) -> None:
    if "vec_normalize.returns" not in state:
        raise ValueError("it holds no statistics for the env's VecNormalize: the run that saved it had none")
    returns = state["vec_normalize.returns"].numpy().copy()
    if returns.shape == vec_normalize.returns.shape:  # with another number of envs, they begin anew
        vec_normalize.returns = returns
    for key in STATISTICS:
        statistics = getattr(vec_normalize, key, None)
        if not isinstance(statistics, RunningMeanStd):
            continue
        saved = state.get(f"vec_normalize.{key}")
        if saved is None or saved.shape != (2, np.size(statistics.mean)):
            raise ValueError(f"its VecNormalize statistics do not fit those of the env ({key})")
        shape = np.shape(statistics.mean)
        statistics.mean, statistics.var = (part.reshape(shape).copy() for part in saved.numpy())
        statistics.count = float(state[f"vec_normalize.{key}.count"])
