"""What acting on commands achieves: CommandSweep, and the bookkeeping around the episodes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_gogepo.checks import check_number
from sb3_gogepo.errors import NonFiniteError
from sb3_gogepo.networks.calibration import Calibration
from sb3_gogepo.networks.policies import check_command
from sb3_gogepo.rollouts.rollout import Episode


class CommandSweep(NamedTuple):
    """What acting on ``commands`` achieved; all arrays are (n_commands,), in return units / env steps."""

    commands: np.ndarray
    mean_returns: np.ndarray
    std_returns: np.ndarray
    mean_lengths: np.ndarray

    @property
    def span(self) -> float:
        """Highest less lowest command, in return units."""
        return float(np.ptp(self.commands))

    @property
    def r2(self) -> float:
        """Share of the commands' variance that the mean returns follow: 1 where all are met; nan for equal commands."""
        spread = float(np.square(self.commands - self.commands.mean()).sum())
        return 1 - float(np.square(self.mean_returns - self.commands).sum()) / spread if spread > 0 else float("nan")

    @property
    def mean_error(self) -> float:
        """Mean distance between asked and mean return, as a share of ``span``; nan for equal commands."""
        return float(np.abs(self.mean_returns - self.commands).mean()) / self.span if self.span > 0 else float("nan")

    @property
    def is_met(self) -> np.ndarray:
        """(n_commands,) is the mean return within a tenth of ``span`` of the command?"""
        return np.abs(self.mean_returns - self.commands) <= 0.1 * self.span

    @property
    def is_earned_by_none(self) -> np.ndarray:
        """(n_commands,) does no command of the sweep earn a return within a tenth of ``span`` of this one?

        Such returns may not exist: on MountainCarContinuous a policy reaches the goal and has more than 90, or does not
        and has less than 0.
        """
        nearest = np.abs(self.mean_returns[None, :] - self.commands[:, None]).min(axis=1)
        return nearest > 0.1 * self.span

    def summary(self) -> str:
        """One line: how closely the commands were met, and which returns nothing earns."""
        line = (
            f"R2 {self.r2:.3f}, mean error {self.mean_error:.1%} of the range, {self.is_met.sum()} of {len(self.commands)} met"
        )
        missing = self.commands[self.is_earned_by_none]
        return line + (f"; no command earns about {missing.min():.4g} to {missing.max():.4g}" if len(missing) else "")


def join_sweeps(first: CommandSweep, n_first: int, second: CommandSweep, n_second: int) -> CommandSweep:
    """Two sweeps over the same commands, of ``n_first`` and ``n_second`` episodes a command, as one."""
    shares = n_first / (n_first + n_second), n_second / (n_first + n_second)
    means = shares[0] * first.mean_returns + shares[1] * second.mean_returns
    variances = [
        share * (sweep.std_returns**2 + (sweep.mean_returns - means) ** 2)
        for share, sweep in zip(shares, (first, second), strict=True)
    ]
    lengths = shares[0] * first.mean_lengths + shares[1] * second.mean_lengths
    return CommandSweep(first.commands, means, np.sqrt(sum(variances)), lengths)


def fit_calibration(calibration: Calibration, first: CommandSweep, second: CommandSweep) -> None:
    """Fit on two sweeps over the same commands, if a fit on one brings returns nearer to the asked ones in the other.

    Otherwise, or where all commands are the same, the calibration is switched off. Between two commands of the other sweep
    the error, not the return, is interpolated: where one earns little and the next one much, nothing may earn the middle.
    """
    commands = first.commands
    if first.span == 0:
        calibration.reset()
        return

    def error(fitted: CommandSweep | None, held_out: CommandSweep) -> float:
        asked = commands
        if fitted is not None:
            calibration.fit(commands, fitted.mean_returns)
            asked = calibration(th.from_numpy(commands)).numpy()
        errors = [
            np.interp(acted_on, commands, np.abs(held_out.mean_returns - command))
            for acted_on, command in zip(asked, commands, strict=True)
        ]
        return float(np.mean(errors))

    calibrated = error(first, second) + error(second, first)
    if calibrated < error(None, first) + error(None, second):
        calibration.fit(commands, (first.mean_returns + second.mean_returns) / 2)
    else:
        calibration.reset()


def warn_if_out_of_range(model: Any, commands: Any) -> None:
    """Say, once a model, that a command lies outside the returns seen in training."""
    if model._has_warned or model.best_return is None or model.worst_return is None:
        return
    outside = [float(command) for command in commands if not model.worst_return <= command <= model.best_return]
    if outside:
        model._has_warned = True
        warnings.warn(
            f"command {outside[0]:g} lies outside the returns seen in training, {model.worst_return:g} to "
            f"{model.best_return:g}: the model extrapolates",
            stacklevel=4,
        )


def evaluate_commands(model: Any, commands: Any, n_eval_episodes: int, env: GymEnv | None, seed: int) -> CommandSweep:
    """``model.evaluate_commands``, which has the arguments."""
    warn_if_out_of_range(model, values := check_commands(commands))
    check_number("n_eval_episodes", n_eval_episodes, minimum=1, integer=True)
    check_number("seed", seed, minimum=0, integer=True)
    vec_env = model.env if env is None else model._wrap_env(env)
    if vec_env is None:
        raise ValueError("there is no env to evaluate in: pass env=")
    if env is None and model._collector is not None and model._collector.is_asking:
        raise ValueError("env must be another one in on_step, where episodes are going on in the training env, got None")
    check_for_correct_spaces(vec_env, model.observation_space, model.action_space)
    seeds = [int(seed) + k for k in range(n_eval_episodes)]
    try:
        return sweep_commands(model.run_commands, vec_env, values, seeds, model.alive_bonus_offset)
    finally:
        if env is None:
            model._last_obs = None  # the training env was used: learn must reset it


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
