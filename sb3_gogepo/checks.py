"""Checks of what users pass: one ValueError that names the argument, the received value and what is allowed."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from gymnasium import spaces


def is_finite(value: Any) -> bool:
    """Is a number finite? Python's integers that are too large for a float are not."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def check_number(name: str, value: Any, minimum: float | None = None, exclusive: bool = False, integer: bool = False) -> None:
    """Raise unless ``value`` is a finite number (an int if ``integer``) of at least, or above, ``minimum``."""
    kind = "an integer" if integer else "a finite number"
    bound = "" if minimum is None else f" {'>' if exclusive else '>='} {minimum:g}"
    good = isinstance(value, (int, np.integer) if integer else (int, float, np.integer, np.floating)) and not isinstance(
        value, bool
    )
    if good and not is_finite(value):
        good = False
    if good and minimum is not None:
        good = value > minimum if exclusive else value >= minimum
    if not good:
        raise ValueError(f"{name} must be {kind}{bound}, got {value!r}")


def as_python(value: Any) -> Any:
    """NumPy's numbers and bools as Python's, also in lists, tuples and dicts; anything else unchanged."""
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(as_python(item) for item in value)
    if type(value) is dict:
        return {key: as_python(item) for key, item in value.items()}
    return value


def check_bool(name: str, value: Any) -> None:
    """Raise unless ``value`` is True or False; the strings "no" and "false" would count as True."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_sb3_arguments(stats_window_size: Any, tensorboard_log: Any, policy_kwargs: Any, verbose: Any, seed: Any) -> None:
    """Raise unless these arguments are valid, which SB3's ``BaseAlgorithm`` does not check."""
    check_number("stats_window_size", stats_window_size, minimum=1, integer=True)
    if not (tensorboard_log is None or isinstance(tensorboard_log, (str, os.PathLike))):
        raise ValueError(f"tensorboard_log must be a path or None, got {tensorboard_log!r}")
    if not (policy_kwargs is None or isinstance(policy_kwargs, dict)):
        raise ValueError(f"policy_kwargs must be a dict or None, got {policy_kwargs!r}")
    check_number("verbose", verbose, minimum=0, integer=True)
    if seed is not None:
        check_number("seed", seed, minimum=0, integer=True)


def check_fraction(name: str, value: Any) -> None:
    """Raise unless ``value`` is a number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number in [0, 1], got {value!r}")


def check_observation_space(space: spaces.Space, algorithm: str) -> None:
    """Raise unless ``space`` is a flat Box."""
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return
    if isinstance(space, spaces.Dict):
        remedy = "wrap the env in gymnasium.wrappers.FlattenObservation"
    elif isinstance(space, spaces.Box):
        remedy = "extract features or wrap the env in gymnasium.wrappers.FlattenObservation"
    else:
        remedy = "wrap the env in gymnasium.wrappers.FlattenObservation, which one-hot encodes discrete observations"
    raise ValueError(f"{algorithm} supports flat Box observation spaces, got {space}; {remedy}")


def as_observations(observations: Any, space: spaces.Space, dtype: Any = None) -> np.ndarray:
    """A copy of observations, (n_envs, \\*space.shape), without extra axes of size 1, as SB3's DummyVecEnv makes it.

    :param observations: (n_envs, ...) what the envs gave.
    :param space: observation space of a single env.
    :param dtype: type of the copy; None: that of the observations.
    :raises ValueError: for any other shape.
    """
    array = np.array(observations, dtype=dtype)
    of_one = space.shape or ()
    shape = (len(array), *of_one)
    if array.shape == shape:
        return array
    axes = list(array.shape[1:])
    while len(axes) > len(of_one) and axes[0] == 1:
        del axes[0]
    if tuple(axes) != of_one and not (axes == [] and of_one == (1,)):
        raise ValueError(f"the env must observe arrays of the shape {of_one} of its space, got {array.shape[1:]}")
    return array.reshape(shape)


def check_action_space(space: spaces.Space, algorithm: str) -> None:
    """Raise unless ``space`` is Discrete or a Box of floats with finite bounds."""
    if isinstance(space, spaces.Discrete):
        return
    if not isinstance(space, spaces.Box):
        remedy = "wrap the env in a gymnasium.ActionWrapper that offers one Discrete or Box space"
        raise ValueError(f"{algorithm} supports Box and Discrete action spaces, got {space}; {remedy}")
    if not np.issubdtype(space.dtype, np.floating):
        remedy = "wrap the env in a gymnasium.ActionWrapper that rounds"
        raise ValueError(f"{algorithm} supports Box action spaces of floats, got {space}; {remedy}")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        remedy = "set bounds in the env or wrap it in a gymnasium.ActionWrapper that has some"
        raise ValueError(f"{algorithm} needs finite action bounds, got {space}; {remedy}")


def check_schedule(name: str, value: Any) -> None:
    """Raise unless ``value`` is a finite number >= 0 or a schedule."""
    if not callable(value):
        check_number(name, value, minimum=0)


def check_train_freq(value: Any) -> tuple[int, str]:
    """``train_freq`` as ``(number, "step" | "episode")``; an int counts env steps."""
    frequency, unit = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, "step")
    unit = getattr(unit, "value", unit)  # SB3's TrainFrequencyUnit
    if unit not in ("step", "episode"):
        raise ValueError(f"train_freq must be an integer >= 1 or a tuple such as (1, 'episode'), got {value!r}")
    check_number("train_freq", frequency, minimum=1, integer=True)
    return int(frequency), unit


def check_sizes(name: str, sizes: Any, allow_empty: bool = True) -> None:
    """Raise unless ``sizes`` is a sequence of integers >= 1."""
    good = isinstance(sizes, (list, tuple, np.ndarray)) and all(_is_size(size) for size in sizes)
    if not good or (len(sizes) == 0 and not allow_empty):
        raise ValueError(f"{name} must be a {'' if allow_empty else 'non-empty '}list of integers >= 1, got {sizes!r}")


def _is_size(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 1)


def check_range(name: str, value: Any) -> None:
    """Raise unless ``value`` is a pair of finite numbers, the first below the second."""
    try:
        low, high = value
        good = is_finite(low) and is_finite(high) and low < high
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(f"{name} must be two finite numbers (low, high) with low < high, got {value!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
