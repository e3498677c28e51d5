"""UDRL: upside-down reinforcement learning.

Paper: Srivastava, Shyam, Mutz, Jaskowski, Schmidhuber, "Training Agents using Upside-Down Reinforcement Learning", 2019,
https://arxiv.org/abs/1912.02877 (version 1). There is no code by its authors that we know of.

Differences from the paper:

- Returns and horizons are divided by the largest ones in the buffer; ``return_scale`` and ``horizon_scale`` are the
  paper's fixed factors.
- Observations are normalized by running statistics.
- Actions of a Box: independent Gaussians whose standard deviations depend on the state and are clamped. The paper's
  tasks are discrete.
- The horizon of a segment counts its steps, so the last step has 1, the smallest horizon ever commanded, rather than 0.
- Exploratory commands reach up to ten standard deviations above the mean return of the best episodes, and their horizons
  follow along. With the paper's single one, at a constant horizon, the best return grows slowly (docs/udrl.md).
- ``predict`` knows no rewards, so a learned reward model stands in for them there. Training and ``evaluate_commands``
  use the true ones.
- Acting without exploration takes the mean or the most likely action, as SB3's ``deterministic=True``; the paper samples.
- The evaluation command is not capped at an env's highest return.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import update_learning_rate
from stable_baselines3.common.vec_env import VecEnv

from sb3_gogepo.base.command_algorithm import CommandAlgorithm
from sb3_gogepo.base.logs import record_losses
from sb3_gogepo.checks import check_bool, check_number
from sb3_gogepo.networks.losses import likelihood_loss
from sb3_gogepo.networks.normalization import SMALLEST_SPREAD, unit_of
from sb3_gogepo.networks.optimization import step_if_finite
from sb3_gogepo.rollouts.rollout import Actors, Episode, run_actors
from sb3_gogepo.udrl.acting import CommandActors
from sb3_gogepo.udrl.episode_buffer import EpisodeBuffer
from sb3_gogepo.udrl.policies import UDRLPolicy


class CommandedEpisodes(NamedTuple):
    """The candidates of an iteration: episodes about to begin.

    :param commands: (n_candidates,) desired returns; nan: the episode is one of random actions.
    :param horizons: (n_candidates,) desired horizons in env steps; nan where ``commands`` is.
    :param rngs: one random generator a candidate, from which its actions are drawn.
    :param seeds: one reset seed a candidate.
    """

    commands: np.ndarray
    horizons: np.ndarray
    rngs: list[np.random.Generator]
    seeds: list[int]


def fit_slope(returns: np.ndarray, lengths: np.ndarray) -> float:
    """Least-squares slope of (n,) lengths over (n,) returns, in env steps a return unit; 0 where all returns are equal."""
    deviations = returns - returns.mean()
    variance = float(np.mean(deviations**2))
    smallest = (SMALLEST_SPREAD * np.abs(returns).max()) ** 2
    return float(np.mean(deviations * lengths)) / variance if variance > smallest else 0.0


class UDRL(CommandAlgorithm):
    """Learn to act on commands (desired return, desired horizon) by imitating what the best episodes did.

    ``UDRL("LunarLander-v3")`` and ``UDRL("MlpPolicy", env)`` are both fine. See
    :class:`~sb3_gogepo.base.command_algorithm.CommandAlgorithm` for the parameters that are not listed here and
    :class:`~sb3_gogepo.udrl.policies.UDRLPolicy` for ``policy_kwargs``.

    :param buffer_size: number of episodes kept, those of the highest return (the paper: replay_size).
    :param batch_size: number of env steps in the batch of a gradient step.
    :param last_few: number of best episodes in the buffer whose returns and lengths exploratory commands start from.
    :param command_increment_std: how far the desired return of an exploratory command may lie above the mean return of the
        ``last_few`` best episodes, in standard deviations of their returns; drawn uniformly, from 0 on. (In GoGePo and
        UDRLPG, the argument of this name is a fixed increment above the best return.)
    :param extrapolate_horizon: True: the horizon of an exploratory command grows with its return, along the line fitted to
        the returns and lengths of the ``last_few`` best episodes; False: it is the mean length of these episodes.
    :param gradient_steps: number of gradient steps in a training round (the paper: n_updates_per_iter).
    :param n_candidates: number of episodes between two trainings (the paper: n_episodes_per_iter).
    :param n_warm_up_episodes: number of episodes with random actions before the first training.
    :param return_scale: what desired returns are multiplied by for the network; None: 1 / the largest absolute return in
        the buffer.
    :param horizon_scale: what desired horizons, in env steps, are multiplied by for the network; None: 1 / the largest
        length of an episode in the buffer.
    """

    policy: UDRLPolicy
    replay_buffer: EpisodeBuffer
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": UDRLPolicy}

    def __init__(
        self,
        policy: str | type[UDRLPolicy] | GymEnv = "MlpPolicy",
        env: GymEnv | str | Callable[[], gym.Env] | None = None,
        learning_rate: float | Schedule = 1e-3,
        buffer_size: int = 500,
        batch_size: int = 256,
        last_few: int = 50,
        command_increment_std: float = 10.0,
        extrapolate_horizon: bool = True,
        train_freq: int | tuple[int, str] = (15, "episode"),
        gradient_steps: int = 100,
        n_warm_up_episodes: int = 50,
        return_scale: float | None = None,
        horizon_scale: float | None = None,
        n_candidates: int | None = 15,
        alive_bonus_offset: float | None = None,
        normalize_observations: bool = True,
        on_non_finite: str = "discard",
        rollout_backend: str = "in-process",
        rollout_workers: int | None = None,
        rollout_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_number("last_few", last_few, minimum=1, integer=True)
        check_bool("extrapolate_horizon", extrapolate_horizon)
        check_number("command_increment_std", command_increment_std, minimum=0)
        check_number("gradient_steps", gradient_steps, minimum=0, integer=True)
        check_number("n_warm_up_episodes", n_warm_up_episodes, minimum=1, integer=True)
        for name, scale in (("return_scale", return_scale), ("horizon_scale", horizon_scale)):
            if scale is not None:
                check_number(name, scale, minimum=0, exclusive=True)
        super().__init__(
            policy=policy,
            env=env,
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            batch_size=batch_size,
            train_freq=train_freq,
            n_candidates=n_candidates,
            alive_bonus_offset=alive_bonus_offset,
            normalize_observations=normalize_observations,
            on_non_finite=on_non_finite,
            rollout_backend=rollout_backend,
            rollout_workers=rollout_workers,
            rollout_kwargs=rollout_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
        )
        self.last_few = last_few
        self.command_increment_std = command_increment_std
        self.extrapolate_horizon = extrapolate_horizon
        self.gradient_steps = gradient_steps
        self.n_warm_up_episodes = n_warm_up_episodes
        self.return_scale = return_scale
        self.horizon_scale = horizon_scale
        if _init_setup_model:
            self._require_env()
            self._setup_model()

    def _make_replay_buffer(self) -> EpisodeBuffer:
        action_map = self.policy.action_map
        return EpisodeBuffer(
            buffer_size=self.buffer_size,
            n_obs=self.policy.normalizer.mean.shape[0],
            n_actions=1 if action_map.is_discrete else action_map.n_outputs,
            seed=self.run_seed,
            device=self.device,
        )

    # ------------------------------------------------------------------ commands

    @property
    def keeps_steps(self) -> bool:
        """Observations, actions and rewards of each step are learned from."""
        return True

    def propose_candidates(self, n_candidates: int) -> CommandedEpisodes:
        """Exploratory commands: a return from [mean, mean + ``command_increment_std`` * std] of the ``last_few`` best.

        The horizon is the length that goes with such a return: a better episode may need more steps, or fewer.
        """
        rngs = [self._candidate_rng(i) for i in range(n_candidates)]
        seeds = [int(rng.integers(2**31)) for rng in rngs]  # first, as in reset_seed
        returns, lengths = self.replay_buffer.best(self.last_few)
        is_random = np.array([self._candidate_num + i < self.n_warm_up_episodes for i in range(n_candidates)])
        if not len(returns):
            is_random[:] = True
        commands, horizons = np.full(n_candidates, np.nan), np.full(n_candidates, np.nan)
        for i in np.flatnonzero(~is_random):
            increment = self.command_increment_std * returns.std() * rngs[i].random()
            commands[i] = returns.mean() + increment
            slope = fit_slope(returns, lengths) if self.extrapolate_horizon else 0.0
            horizons[i] = max(lengths.mean() + slope * increment, 1)
        return CommandedEpisodes(commands=commands, horizons=horizons, rngs=rngs, seeds=seeds)

    def _log_candidates(self, candidates: CommandedEpisodes) -> None:
        if np.isfinite(candidates.commands[-1]):  # not while warming up
            super()._log_candidates(candidates)
            self.logger.record("train/horizon", float(candidates.horizons[-1]))

    @property
    def horizon(self) -> float:
        """The number of env steps in which ``predict`` is to achieve ``command``; like it, it follows the best episodes."""
        return self.policy.horizon

    @horizon.setter
    def horizon(self, value: float | None) -> None:
        if value is None:
            self.command = None
        else:
            self.policy.horizon = value
            self._follows_best = False

    def _command_the_best(self) -> None:
        """Command the mean return and length of the ``last_few`` best episodes, where exploratory commands start."""
        returns, lengths = self.replay_buffer.best(self.last_few)
        if len(returns):
            self.policy.command = float(returns.mean())
            self.policy.horizon = max(float(lengths.mean()), 1.0)

    # ------------------------------------------------------------------ episodes

    def make_actors(self, candidates: CommandedEpisodes, chosen: slice, n_envs: int) -> Callable[[], Actors]:
        """What makes actors that follow the chosen commands with sampled actions."""
        policy = self.policy
        if self._collector is not None and self._collector.has_workers:  # to be pickled for machines that may have no GPU
            policy = copy.deepcopy(policy).cpu()
            del policy.optimizer
        return partial(
            CommandActors,
            policy,
            np.stack([candidates.commands, candidates.horizons], axis=1)[chosen],
            candidates.rngs[chosen],
            n_envs=n_envs,
            reward_offset=self.alive_bonus_offset,
        )

    def store_episode(self, candidates: CommandedEpisodes, index: int, episode: Episode, episode_return: float) -> None:
        """Put the episode into the buffer, unless the buffer is full of better ones."""
        assert episode.observations is not None
        assert episode.actions is not None
        assert episode.rewards is not None
        self.replay_buffer.add(
            episode.observations, self.policy.action_map.scale(episode.actions), episode.rewards + self.alive_bonus_offset
        )

    def run_commands(self, env: VecEnv, commands: np.ndarray, seeds: list[int]) -> list[Episode]:
        """One episode for each of (n_commands,) returns and each seed, command-major; the desired horizon is ``horizon``.

        Actions are the means or the most likely ones. The true rewards are subtracted from the desired return.
        """
        returns = np.repeat(commands, len(seeds))
        episodes = run_actors(
            env,
            CommandActors(
                self.policy,
                np.stack([returns, np.full(len(returns), self.horizon)], axis=1),
                None,
                n_envs=env.num_envs,
                reward_offset=self.alive_bonus_offset,
            ),
            seeds * len(commands),
        )
        assert episodes is not None
        return episodes

    # ------------------------------------------------------------------ training

    def train(self, n_rounds: int) -> None:
        """``n_rounds`` times ``gradient_steps`` steps of maximum likelihood."""
        self._update_scalers()
        learning_rate = self.lr_schedule(self._current_progress_remaining)
        update_learning_rate(self.policy.optimizer, learning_rate)
        losses = [self.train_behavior() for _ in range(n_rounds * self.gradient_steps)]
        self._n_updates += n_rounds
        self.logger.record("train/learning_rate", learning_rate)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        record_losses(self, behavior_loss=[behavior_loss for behavior_loss, _ in losses])
        if losses:
            self.logger.record("train/reward_loss", th.stack([reward_loss for _, reward_loss in losses]).nanmean().item())

    def _update_scalers(self) -> None:
        buffer, policy = self.replay_buffer, self.policy
        largest = unit_of(float(np.abs(buffer.stored_returns).max()))
        policy.return_scaler.set(offset=0.0, scale=largest if self.return_scale is None else 1 / self.return_scale)
        policy.horizon_scaler.set(
            offset=0.0, scale=buffer.lengths.max() if self.horizon_scale is None else 1 / self.horizon_scale
        )
        policy.reward_scaler.fit(buffer.stored_rewards)

    def train_behavior(self) -> tuple[th.Tensor, th.Tensor]:
        """One gradient step on -log p(a | s, return to go, horizon), and on the reward model.

        :return: the behavior loss and the reward loss. The behavior loss is nan if no step was made because something was
            not finite.
        """
        samples = self.replay_buffer.sample(self.batch_size)
        outputs = self.policy.distribution(samples.observations, samples.returns_to_go, samples.horizons)
        behavior_loss = likelihood_loss(outputs.means, outputs.log_stds, samples.actions)
        predicted = self.policy.predict_rewards(samples.observations, samples.actions)
        reward_loss = th.nn.functional.mse_loss(predicted, self.policy.reward_scaler(samples.rewards))
        loss = step_if_finite(self.policy.optimizer, behavior_loss + reward_loss)
        return th.where(th.isfinite(loss), behavior_loss.detach(), th.nan), reward_loss.detach()
