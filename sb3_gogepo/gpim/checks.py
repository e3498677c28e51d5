"""Checks of GPIM's arguments and envs: one ValueError that says what is wrong and what helps."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_gogepo.checks import check_bool, check_choice, check_fraction, check_number, check_schedule
from sb3_gogepo.gpim.relabelling import GOAL_TYPES

GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")
#: integers and their minimum
_INTEGERS = {"buffer_size": 1, "batch_size": 1, "train_freq": 1, "learning_starts": 0}
_OPTIONAL_INTEGERS = {"segment_length": 1, "skill_steps": 1}
#: what :func:`check_settings` looks at
SETTINGS = (
    *_INTEGERS,
    *_OPTIONAL_INTEGERS,
    *("learning_rate", "discriminator_learning_rate", "tau", "gamma", "ent_coef", "goal_type", "infer_latents"),
)


def check_settings(settings: dict[str, Any]) -> None:
    """Raise unless each of GPIM's ``SETTINGS`` is in its range."""
    check_schedule("learning_rate", settings["learning_rate"])
    for name, minimum in _INTEGERS.items():
        check_number(name, settings[name], minimum=minimum, integer=True)
    for name, minimum in _OPTIONAL_INTEGERS.items():
        if settings[name] is not None:
            check_number(name, settings[name], minimum=minimum, integer=True)
    check_fraction("tau", settings["tau"])
    check_fraction("gamma", settings["gamma"])
    check_number("ent_coef", settings["ent_coef"], minimum=0)
    if settings["discriminator_learning_rate"] is not None:
        check_number("discriminator_learning_rate", settings["discriminator_learning_rate"], minimum=0)
    check_bool("infer_latents", settings["infer_latents"])
    check_choice("goal_type", settings["goal_type"], GOAL_TYPES)


def check_goal_space(space: spaces.Space, goal_type: str, segment_length: int | None) -> None:
    """Raise unless ``space`` is that of a goal env whose goals fit ``goal_type``."""
    if not isinstance(space, spaces.Dict):
        raise ValueError(
            f"GPIM needs a goal env, whose observation is a Dict of {', '.join(GOAL_KEYS)}, got {space}; "
            "wrap the env in sb3_gogepo.gpim.GoalWrapper(env, goal_map)"
        )
    for key in GOAL_KEYS:
        if key not in space.spaces:
            raise ValueError(f"GPIM needs the keys {', '.join(GOAL_KEYS)} in the observation, got {', '.join(space.spaces)}")
        if not isinstance(space[key], spaces.Box):
            raise ValueError(f"GPIM needs Box spaces in the observation, got {space[key]} for {key!r}")
    if len(space["observation"].shape or ()) != 1:
        raise ValueError(
            f"GPIM needs a flat 'observation', got the shape {space['observation'].shape}; flatten it in a wrapper"
        )
    desired, achieved = (space[key].shape or () for key in ("desired_goal", "achieved_goal"))
    if goal_type != "sequence":
        if desired != achieved:
            raise ValueError(
                f"goal_type {goal_type!r} needs goals of one shape, got {achieved} achieved and {desired} desired"
            )
    elif segment_length is None:
        raise ValueError("segment_length must be an integer >= 1 where goal_type is 'sequence', got None")
    elif len(desired) != 1 or desired[0] % np.prod(achieved) != 0:
        raise ValueError(
            "goal_type 'sequence' needs a flat desired_goal, a whole number of achieved goals long, "
            f"got {desired} for {achieved}"
        )


def check_box_has_width(space: spaces.Space) -> None:
    """Raise if an action has a range of width 0, by which SAC would divide."""
    if isinstance(space, spaces.Box) and not (space.low < space.high).all():
        raise ValueError(f"GPIM needs action bounds with low < high, got {space}; leave the others out in a wrapper")


def check_goals_are_raw(env: VecEnv) -> None:
    """Raise if a VecNormalize changes goals: it would scale achieved goals differently from desired ones."""
    vec_normalize = unwrap_vec_normalize(env)
    if vec_normalize is not None and vec_normalize.norm_obs and set(vec_normalize.norm_obs_keys or ()) - {"observation"}:
        raise ValueError(
            "GPIM needs goals as the env gives them: use VecNormalize(..., norm_obs_keys=['observation']), "
            f"got norm_obs_keys={vec_normalize.norm_obs_keys}"
        )
