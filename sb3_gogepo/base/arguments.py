"""What ``GoGePo("Hopper-v3")`` and ``GoGePo("MlpPolicy", env)`` have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import registry
from stable_baselines3.common.policies import BasePolicy

from sb3_gogepo.checks import check_bool, check_choice, check_number, check_sb3_arguments, check_schedule


def split_policy_and_env(policy: Any, env: Any, aliases: Mapping[str, type[BasePolicy]]) -> tuple[Any, Any]:
    """(policy, env) where the first argument may be the env: then the policy is ``"MlpPolicy"``.

    :param aliases: the algorithm's ``policy_aliases``.
    :raises ValueError: if ``policy`` is neither an alias, nor a class of these policies, nor, alone, an env.
    """
    kinds = tuple(aliases.values())
    if isinstance(policy, type) and issubclass(policy, kinds):
        return policy, env
    if isinstance(policy, str) and policy in aliases:
        return policy, env
    names = ", ".join(aliases)
    if env is not None:
        allowed = f"one of {names} or a class derived from {', '.join(kind.__name__ for kind in kinds)}"
        raise ValueError(f"policy must be {allowed} when env is given, got {policy!r}")
    if isinstance(policy, str) and ":" not in policy and policy not in registry:
        message = f"policy must be one of {names}, a policy class or, alone, a registered env id, got {policy!r}"
        try:
            gym.spec(policy)
        except gym.error.Error as error:  # knows ids that are nearly the same
            raise ValueError(f"{message}. {error}") from error
        raise ValueError(message)
    return "MlpPolicy", policy


def check_base_arguments(learning_rate: Any, device: Any = "auto", **kwargs: Any) -> None:
    """Check what SB3's ``BaseAlgorithm`` takes as it is.

    :raises ValueError: naming the argument.
    """
    check_schedule("learning_rate", learning_rate)
    check_sb3_arguments(**kwargs)


def check_learning_arguments(
    buffer_size: Any, batch_size: Any, n_candidates: Any, normalize_observations: Any, on_non_finite: Any
) -> None:
    """Check what all algorithms that act on commands take.

    :raises ValueError: naming the argument.
    """
    check_number("buffer_size", buffer_size, minimum=1, integer=True)
    check_number("batch_size", batch_size, minimum=1, integer=True)
    if n_candidates is not None:
        check_number("n_candidates", n_candidates, minimum=1, integer=True)
    check_bool("normalize_observations", normalize_observations)
    check_choice("on_non_finite", on_non_finite, ("discard", "raise"))
