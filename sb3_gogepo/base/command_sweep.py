"""What acting on commands achieves: CommandSweep, and the bookkeeping around the episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_gogepo.errors import NonFiniteError
from sb3_gogepo.networks.policies import check_command
from sb3_gogepo.rollouts.rollout import Episode


class CommandSweep(NamedTuple):
    """What acting on ``commands`` achieved; all arrays are (n_commands,), in return units / env steps."""

    commands: np.ndarray
    mean_returns: np.ndarray
    std_returns: np.ndarray
    mean_lengths: np.ndarray


def check_commands(commands: Any) -> np.ndarray:
    """(n_commands,) commands as floats.

    :raises ValueError: if there is none, or one is no finite number.
    """
    values = np.array([check_command(command) for command in np.atleast_1d(np.asarray(commands, dtype=object))])
    if not len(values):
        raise ValueError(f"commands must hold at least one return, got {commands!r}")
    return values


def sweep_commands(
    run_commands: Callable[[VecEnv, np.ndarray, list[int]], list[Episode]],
    env: VecEnv,
    commands: np.ndarray,
    seeds: list[int],
    alive_bonus_offset: float,
) -> CommandSweep:
    """One episode for each of (n_commands,) commands and each seed. Statistics of a VecNormalize stay as they are.

    :param run_commands: env, commands, seeds -> episodes, command-major.
    :param alive_bonus_offset: added to the return for each step.
    :raises NonFiniteError: if an observation, action or reward is not finite. What an env raises is not caught here.
    """
    vec_normalize = unwrap_vec_normalize(env)
    was_training = vec_normalize is not None and vec_normalize.training
    if vec_normalize is not None:
        vec_normalize.training = False
    try:
        episodes = run_commands(env, commands, seeds)
    finally:
        if vec_normalize is not None:
            vec_normalize.training = was_training
    for i, episode in enumerate(episodes):
        if episode.discarded is not None:
            where = f"command {commands[i // len(seeds)]:g}, seed {seeds[i % len(seeds)]}"
            raise NonFiniteError(f"{where}: {episode.discarded.reason}")
    lengths = np.array([episode.length for episode in episodes]).reshape(len(commands), len(seeds))
    returns = np.array([episode.episode_return for episode in episodes]).reshape(lengths.shape) + alive_bonus_offset * lengths
    return CommandSweep(commands, returns.mean(axis=1), returns.std(axis=1), lengths.mean(axis=1))
