"""CommandAlgorithm: what all algorithms that act on commands share, over SB3's BaseAlgorithm.

The loop of :meth:`CommandAlgorithm.learn`: choose commands, run one episode for each, store, train. A subclass says what
a candidate is, how it acts, what is stored of it, and how to train.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from gymnasium.envs.registration import registry
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import check_for_correct_spaces, safe_mean
from stable_baselines3.common.vec_env import VecEnv

from sb3_gogepo.base.command_sweep import CommandSweep, sweep_commands
from sb3_gogepo.checks import (
    as_python,
    check_action_space,
    check_bool,
    check_choice,
    check_number,
    check_observation_space,
    check_sb3_arguments,
    check_schedule,
    check_train_freq,
)
from sb3_gogepo.envs import alive_bonus, is_env_fn, make_env
from sb3_gogepo.networks.denormals import flush_denormals
from sb3_gogepo.networks.policies import check_command
from sb3_gogepo.rollouts.episodic_algorithm import EpisodicAlgorithm, find_too_large
from sb3_gogepo.rollouts.rollout import Episode
from sb3_gogepo.rollouts.workers.pool import check_rollout
from sb3_gogepo.saving.picklefree_algorithm import draw_seed
from sb3_gogepo.saving.run_state import iteration_start

SelfCommandAlgorithm = TypeVar("SelfCommandAlgorithm", bound="CommandAlgorithm")


class CommandAlgorithm(EpisodicAlgorithm):
    """Base class of the algorithms that act on commands.

    Parameters are SB3's, except:

    :param policy: policy alias or class; or, when ``env`` is None, the env: ``GoGePo("Hopper-v3")``.
    :param buffer_size: entries of the replay buffer.
    :param batch_size: entries a gradient step sees.
    :param train_freq: one training round every that many env steps, or every ``(n, "episode")``. Rounds that fall due
        during an episode are made when it has ended.
    :param n_candidates: episodes between two trainings; None: as many as there are envs. With a number, results
        do not depend on how many envs run them.
    :param alive_bonus_offset: added to each step's reward in the returns the algorithm learns from, and so in commands;
        logged rewards stay the env's own (as sb3-contrib's ARS). None: takes out what Hopper, Walker2d, Ant and
        Humanoid are paid for staying alive, as the original code, since they learn to stand still for it; else 0.
    :param normalize_observations: by running statistics kept in the policy. They change between iterations only.
    :param on_non_finite: what to do about NaN and infinity in observations, actions, rewards, generated weights and
        losses: ``"discard"`` the episode or gradient step with a warning, or ``"raise"``.
    :param rollout_backend: where episodes run: ``"in-process"`` in ``env``; ``"subprocess"`` or ``"ray"`` in workers that
        have an env each and are restarted when they fail. Then ``env`` is an id, an env that can be pickled (or a VecEnv
        of such), or a function that makes an env.
    :param rollout_workers: number of workers; None: as many as there are CPU cores.
    :param rollout_kwargs: see :class:`~sb3_gogepo.rollouts.workers.pool.PoolSettings`.
    :raises ValueError: naming the argument, for any value outside its range, unsupported spaces, or an unknown env.
    """

    policy: Any  # has `command`, `forget_acting_weights` and `normalizer`
    replay_buffer: Any
    n_warm_up_episodes: int

    def __init__(
        self,
        policy: str | type[BasePolicy] | GymEnv,
        env: GymEnv | str | Callable[[], gym.Env] | None,
        learning_rate: float | Schedule,
        buffer_size: int,
        batch_size: int,
        train_freq: int | tuple[int, str],
        n_candidates: int | None,
        alive_bonus_offset: float | None,
        normalize_observations: bool,
        on_non_finite: str,
        rollout_backend: str,
        rollout_workers: int | None,
        rollout_kwargs: dict[str, Any] | None,
        stats_window_size: int,
        tensorboard_log: str | None,
        policy_kwargs: dict[str, Any] | None,
        verbose: int,
        seed: int | None,
        device: th.device | str,
    ) -> None:
        name = type(self).__name__
        policy, env = self._split_policy_and_env(policy, env)
        check_schedule("learning_rate", learning_rate)
        check_number("buffer_size", buffer_size, minimum=1, integer=True)
        check_number("batch_size", batch_size, minimum=1, integer=True)
        if n_candidates is not None:
            check_number("n_candidates", n_candidates, minimum=1, integer=True)
        check_bool("normalize_observations", normalize_observations)
        check_sb3_arguments(stats_window_size, tensorboard_log, policy_kwargs, verbose, seed)
        check_choice("on_non_finite", on_non_finite, ("discard", "raise"))
        check_rollout(rollout_backend, rollout_workers, rollout_kwargs)
        env_fn = env if is_env_fn(env) else None
        if env is not None:
            env = self._wrap_env(make_env(env, verbose), verbose)
            check_observation_space(env.observation_space, name)
            check_action_space(env.action_space, name)
        super().__init__(
            policy=cast(Any, policy),
            env=env,
            learning_rate=learning_rate,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            supported_action_spaces=(spaces.Box, spaces.Discrete),
        )
        self.buffer_size = buffer_size
        self.batch_size = batch_size
        self.train_freq = check_train_freq(train_freq)
        self.n_candidates = n_candidates
        self.n_warm_up_episodes = 0  # before the first training; subclasses may have more
        self.alive_bonus_offset = self._check_alive_bonus_offset(alive_bonus_offset)
        self.normalize_observations = normalize_observations
        self._init_rollouts(on_non_finite, rollout_backend, rollout_workers, rollout_kwargs, env_fn)
        self.run_seed = draw_seed() if seed is None else int(seed)
        self.best_return: float | None = None
        self.worst_return: float | None = None
        self._follows_best = True  # does predict use the best command, or one the user set?
        self._has_warned = False  # of a command out of range
        self._candidate_num = 0
        self._untrained_amount = 0  # env steps or episodes (train_freq's unit) since the last training

    # ------------------------------------------------------------------ set-up

    @classmethod
    def _split_policy_and_env(cls, policy: Any, env: Any) -> tuple[Any, Any]:
        """``GoGePo("Hopper-v3")`` and ``GoGePo(env)`` mean ``GoGePo("MlpPolicy", env)``."""
        if isinstance(policy, type) and issubclass(policy, tuple(cls.policy_aliases.values())):
            return policy, env
        if isinstance(policy, str) and policy in cls.policy_aliases:
            return policy, env
        aliases = ", ".join(cls.policy_aliases)
        if env is not None:
            kinds = ", ".join(kind.__name__ for kind in cls.policy_aliases.values())
            allowed = f"one of {aliases} or a class derived from {kinds}"
            raise ValueError(f"policy must be {allowed} when env is given, got {policy!r}")
        if isinstance(policy, str) and ":" not in policy and policy not in registry:
            message = f"policy must be one of {aliases}, a policy class or, alone, a registered env id, got {policy!r}"
            try:
                gym.spec(policy)
            except gym.error.Error as error:  # knows ids that are nearly the same
                raise ValueError(f"{message}. {error}") from error
            raise ValueError(message)
        return "MlpPolicy", policy

    def _check_alive_bonus_offset(self, value: float | None) -> float:
        """The value, or what it is for this env where the user leaves it open."""
        if value is not None:
            check_number("alive_bonus_offset", value)
            return value
        bonus = 0.0 if self.env is None else alive_bonus(self.env)
        if bonus and self.verbose >= 1:
            print(
                f"The env pays {bonus:g} a step for staying alive. Commands and the returns learned from are without it;"
                " alive_bonus_offset=0 keeps it."
            )
        return 0.0 - bonus

    def _require_env(self) -> None:
        if self.env is None:
            raise ValueError("env must be a Gymnasium env or a registered id, got None")

    def _setup_model(self) -> None:
        vars(self).update(as_python(vars(self)))
        self.train_freq = check_train_freq(self.train_freq)  # load may have replaced it, and the next
        self.alive_bonus_offset = self._check_alive_bonus_offset(self.alive_bonus_offset)
        self._setup_lr_schedule()
        self._seed_globals()
        self.policy = self.policy_class(self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs).to(
            self.device
        )
        self.replay_buffer = self._make_replay_buffer()

    # ------------------------------------------------------------------ learning

    def learn(
        self: SelfCommandAlgorithm,
        total_timesteps: float,
        callback: MaybeCallback = None,
        log_interval: int | None = 10,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfCommandAlgorithm:
        """Train for at least ``total_timesteps`` env steps; the last iteration's episodes are finished.

        :param total_timesteps: env steps, all envs together; ``1e6`` is fine.
        :param log_interval: episodes between two log entries; None: no log.
        :raises ValueError: if ``total_timesteps`` is no number >= 1, ``log_interval`` < 1, or there is no env.
        """
        total_steps, callback = self._start_learning(
            total_timesteps, callback, log_interval, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        next_log = self._episode_num
        with self._learning(), self._workers():
            while self.num_timesteps < total_steps:
                self._update_current_progress_remaining(self.num_timesteps, total_steps)
                self._iteration_start = iteration_start(self)
                candidates = self.propose_candidates()
                episodes = self.collect_episodes(candidates, callback)
                if episodes is None:  # a callback said stop
                    break
                self._iteration_start = None
                self.store_episodes(candidates, episodes)
                self._update_current_progress_remaining(self.num_timesteps, total_steps)
                self._train_if_due(episodes)
                if log_interval is not None and self._episode_num >= next_log:
                    next_log = self._episode_num + log_interval
                    self.dump_logs()
            else:  # a last boundary
                self._iteration_start = iteration_start(self)
            callback.on_training_end()
        self._iteration_start = None
        return self

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        """As SB3's, but not below 0, where a schedule may become negative: the last episodes run over the total."""
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        self._current_progress_remaining = max(0.0, self._current_progress_remaining)

    def propose_candidates(self) -> Any:
        """The next ``n_candidates`` candidates, with their ``commands`` and reset ``seeds``."""
        raise NotImplementedError

    def store_episode(self, candidates: Any, index: int, episode: Episode, episode_return: float) -> None:
        """Put one finished episode into the buffer; ``episode_return`` includes the alive bonus offset."""
        raise NotImplementedError

    def _candidate_rng(self, index: int) -> np.random.Generator:
        """A random generator that derives from the run's seed and the candidate's number alone."""
        key = (self._candidate_num + index,)
        return np.random.default_rng(np.random.SeedSequence(entropy=self.run_seed, spawn_key=key))

    def store_episodes(self, candidates: Any, episodes: list[Episode]) -> None:
        """Put what the candidates did into buffer and statistics, in the candidates' order.

        Discarded episodes, those with numbers that are not finite or too large for float32, and those of weights that are
        not finite leave no trace but their steps.

        :raises NonFiniteError: for such numbers, with ``on_non_finite="raise"``.
        :raises EnvFailedError: after 20 discarded episodes in a row.
        """
        stored = []
        for i, episode in enumerate(episodes):
            episode_return = self._episode_return(episode)
            discard = episode.discarded or self.check_candidate(candidates, i) or find_too_large(episode, episode_return)
            if discard is not None:
                self._discard(discard, number=self._candidate_num + i, seed=candidates.seeds[i])
                continue
            self._discarded_in_a_row = 0
            self.store_episode(candidates, i, episode, episode_return)
            stored.append(episode)
            self.best_return = max(episode_return, episode_return if self.best_return is None else self.best_return)
            self.worst_return = min(episode_return, episode_return if self.worst_return is None else self.worst_return)
        if self._updates_statistics:  # only now: all candidates acted with the same
            for episode in stored:
                self._update_statistics(episode)
        self._candidate_num += len(episodes)
        self._episode_num += len(episodes)
        self._log_candidates(candidates)
        if self.best_return is not None:
            self.logger.record("train/best_return", self.best_return)

    def _episode_return(self, episode: Episode) -> float:
        """The return to learn from, which includes the alive bonus offset."""
        return episode.episode_return + self.alive_bonus_offset * episode.length

    def _update_statistics(self, episode: Episode) -> None:
        if episode.moments is not None:
            self.policy.normalizer.merge(episode.moments)
        elif episode.observations is not None:
            self.policy.normalizer.update(episode.observations)

    def _log_candidates(self, candidates: Any) -> None:
        self.logger.record("train/command", float(candidates.commands[-1]))

    def _train_if_due(self, episodes: list[Episode]) -> None:
        """Make the training rounds that fell due during the episodes, then let ``predict`` see the result."""
        frequency, unit = self.train_freq
        self._untrained_amount += len(episodes) if unit == "episode" else sum(episode.length for episode in episodes)
        n_rounds, self._untrained_amount = divmod(self._untrained_amount, frequency)
        if n_rounds and len(self.replay_buffer) and not self.is_warming_up:
            with flush_denormals():
                self.train(n_rounds)
        if self._follows_best and self.best_return is not None:
            self._command_the_best()
        self.policy.forget_acting_weights()

    @property
    def is_warming_up(self) -> bool:
        """Have there been fewer than ``n_warm_up_episodes`` episodes? It is too early to train then."""
        return self._candidate_num < self.n_warm_up_episodes

    def train(self, n_rounds: int) -> None:
        """Make ``n_rounds`` rounds of gradient steps."""
        raise NotImplementedError

    def dump_logs(self) -> None:
        """Write one log entry."""
        assert self.ep_info_buffer is not None
        time_elapsed = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        if len(self.ep_info_buffer) > 0:
            self.logger.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in self.ep_info_buffer]))
            self.logger.record("rollout/ep_len_mean", safe_mean([info["l"] for info in self.ep_info_buffer]))
        if self.ep_success_buffer:
            self.logger.record("rollout/success_rate", safe_mean(self.ep_success_buffer))
        self.logger.record("rollout/discarded_episodes", self._discarded_num)
        self.logger.record("time/episodes", self._episode_num, exclude="tensorboard")
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / time_elapsed))
        self.logger.record("time/time_elapsed", int(time_elapsed), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)

    # ------------------------------------------------------------------ acting on commands

    @property
    def command(self) -> float:
        """The return ``predict`` aims at, in return units: the best so far, until you set one (None: the best again)."""
        return self.policy.command

    @command.setter
    def command(self, value: float | None) -> None:
        if value is not None:
            self.policy.command = value
            self._warn_if_out_of_range([value])
        elif self.best_return is not None:
            self._command_the_best()
        self._follows_best = value is None

    def _command_the_best(self) -> None:
        self.policy.command = self.best_return

    def _warn_if_out_of_range(self, commands: Any) -> None:
        """Say, once a model, that a command lies outside the returns seen in training."""
        if self._has_warned or self.best_return is None or self.worst_return is None:
            return
        outside = [float(command) for command in commands if not self.worst_return <= command <= self.best_return]
        if outside:
            self._has_warned = True
            warnings.warn(
                f"command {outside[0]:g} lies outside the returns seen in training, {self.worst_return:g} to "
                f"{self.best_return:g}: the model extrapolates",
                stacklevel=3,
            )

    def run_commands(self, env: VecEnv, commands: np.ndarray, seeds: list[int]) -> list[Episode]:
        """One episode for each of (n_commands,) commands and each seed, command-major."""
        raise NotImplementedError

    def evaluate_commands(
        self, commands: Any, n_eval_episodes: int = 10, env: GymEnv | None = None, seed: int = 0
    ) -> CommandSweep:
        """Act on each command and see what it achieves: Figure 5 of the GoGePo paper.

        :param commands: (n_commands,) returns.
        :param n_eval_episodes: episodes a command.
        :param env: where to run; None: the training env (not in a callback's ``on_step``: its episodes are going on). Returns
            are the env's own, plus ``alive_bonus_offset`` a step, so that they compare with the commands. Statistics of a
            VecNormalize stay as they are.
        :param seed: the k-th episode of each command is reset with ``seed + k``.
        :raises ValueError: for a command that is not finite, or if there is no env, or it is needed by the training.
        """
        values = np.array([check_command(command) for command in np.atleast_1d(np.asarray(commands, dtype=object))])
        if not len(values):
            raise ValueError(f"commands must hold at least one return, got {commands!r}")
        check_number("n_eval_episodes", n_eval_episodes, minimum=1, integer=True)
        self._warn_if_out_of_range(values)
        vec_env = self.env if env is None else self._wrap_env(env)
        if vec_env is None:
            raise ValueError("there is no env to evaluate in: pass env=")
        if env is None and self._is_stepping:
            raise ValueError("env must be another one in on_step, where episodes are going on in the training env, got None")
        check_for_correct_spaces(vec_env, self.observation_space, self.action_space)
        check_number("seed", seed, minimum=0, integer=True)
        seeds = [int(seed) + k for k in range(n_eval_episodes)]
        try:
            return sweep_commands(self.run_commands, vec_env, values, seeds, self.alive_bonus_offset)
        finally:
            if env is None:
                self._last_obs = None  # the training env was used: learn must reset it
