"""CommandAlgorithm: what all algorithms that act on commands share, over SB3's BaseAlgorithm.

The loop of :meth:`CommandAlgorithm.learn`: choose commands, run one episode for each, store, train. A subclass says what
a candidate is, how it acts, what is stored of it, and how to train.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_gogepo.base.arguments import check_base_arguments, check_learning_arguments, split_policy_and_env
from sb3_gogepo.base.command_sweep import CommandSweep, evaluate_commands, warn_if_out_of_range
from sb3_gogepo.base.learning_algorithm import LearningAlgorithm
from sb3_gogepo.buffers.policy_buffer import LOWEST_QUANTILE
from sb3_gogepo.checks import check_action_space, check_observation_space, check_train_freq
from sb3_gogepo.envs import is_env_fn, make_env, settle_alive_bonus_offset
from sb3_gogepo.networks.denormals import flush_denormals
from sb3_gogepo.rollouts.collector import Candidates, EpisodeCollector, find_too_large
from sb3_gogepo.rollouts.faults import Discard
from sb3_gogepo.rollouts.rollout import Actors, Episode
from sb3_gogepo.rollouts.workers.interface import check_rollout
from sb3_gogepo.saving.picklefree_algorithm import draw_seed
from sb3_gogepo.saving.run_state import iteration_start

SelfCommandAlgorithm = TypeVar("SelfCommandAlgorithm", bound="CommandAlgorithm")


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


class CommandAlgorithm(LearningAlgorithm):
    """Base class of the algorithms that act on commands.

    Parameters are SB3's, except these. Those not listed are forwarded to SB3's ``BaseAlgorithm``.

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
    :param rollout_kwargs: see :class:`~sb3_gogepo.rollouts.workers.interface.PoolSettings`.
    :raises ValueError: naming the argument, for any value outside its range, unsupported spaces, or an unknown env.
    """

    policy: Any  # has `command`, `forget_acting_weights` and `normalizer`
    replay_buffer: Any
    n_warm_up_episodes: int

    def __init__(
        self,
        *,
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
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        policy, env = split_policy_and_env(policy, env, self.policy_aliases)
        check_learning_arguments(buffer_size, batch_size, n_candidates, normalize_observations, on_non_finite)
        check_base_arguments(learning_rate=learning_rate, **kwargs)
        check_rollout(rollout_backend, rollout_workers, rollout_kwargs)
        env_fn = env if is_env_fn(env) else None
        if env is not None:
            env = self._wrap_env(make_env(env, kwargs["verbose"]), kwargs["verbose"])
            check_observation_space(env.observation_space, name)
            check_action_space(env.action_space, name)
        super().__init__(
            policy=cast(Any, policy),
            env=env,
            learning_rate=learning_rate,
            support_multi_env=True,
            supported_action_spaces=(spaces.Box, spaces.Discrete),
            **kwargs,
        )
        self.buffer_size = buffer_size
        self.batch_size = batch_size
        self.train_freq = check_train_freq(train_freq)
        self.n_candidates = n_candidates
        self.n_warm_up_episodes = 0  # before the first training; subclasses may have more
        self.alive_bonus_offset = settle_alive_bonus_offset(alive_bonus_offset, self.env, self.verbose)
        self.normalize_observations = normalize_observations
        self.on_non_finite = on_non_finite
        self.rollout_backend = rollout_backend
        self.rollout_workers = rollout_workers
        self.rollout_kwargs = rollout_kwargs
        #: Makes the env of a worker; None: workers get copies of ``env``. Not saved.
        self.env_fn = env_fn
        self._collector: EpisodeCollector | None = None  # while learning
        self.run_seed = draw_seed() if self.seed is None else int(self.seed)
        self.best_return: float | None = None
        self.best_episode_return: float | None = None  # differs from the best return where that is an expected one
        self.worst_return: float | None = None
        self.lowest_command: float | None = None  # the lower end of `command_range`
        self.highest_command: float | None = None  # its upper end, where that is not the best return
        self._follows_best = True  # does predict use the best command, or one the user set?
        self._has_warned = False  # of a command out of range
        self._candidate_num = 0
        self._discarded_num = 0  # episodes
        self._discarded_in_a_row = 0
        self._skipped_steps = 0  # gradient steps
        self._untrained_amount = 0  # env steps or episodes (train_freq's unit) since the last training

    # ------------------------------------------------------------------ set-up

    def _setup_model(self) -> None:
        self.train_freq = check_train_freq(self.train_freq)  # load may have replaced it, and the next
        self.alive_bonus_offset = settle_alive_bonus_offset(self.alive_bonus_offset, self.env, self.verbose)
        super()._setup_model()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "env_fn", "_collector"]

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """As SB3's; workers will run copies of this env, until ``env_fn`` is set."""
        super().set_env(env, force_reset=force_reset)
        self.env_fn = None

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
        self._check_learn(total_timesteps, log_interval)
        name = tb_log_name or type(self).__name__
        with EpisodeCollector(self, keep_steps=self.keeps_steps) as collector:
            total_steps, callback = self._start_learning(total_timesteps, callback, reset_num_timesteps, name, progress_bar)
            collector.start(callback)
            self._learn(collector, total_steps, log_interval)
            callback.on_training_end()
        self._iteration_start = None
        return self

    def _learn(self, collector: EpisodeCollector, total_steps: int, log_interval: int | None) -> None:
        """Iterate until ``total_steps`` env steps are made, or a callback says stop."""
        next_log = self._episode_num
        while self.num_timesteps < total_steps:
            self._update_current_progress_remaining(self.num_timesteps, total_steps)
            self._iteration_start = iteration_start(self)
            candidates = self.propose_candidates(self.n_candidates or collector.n_at_once)
            episodes = collector.collect(candidates, self._updates_statistics, self._lowest_returns(candidates))
            if episodes is None:  # a callback said stop
                return
            self._iteration_start = None
            self.store_episodes(candidates, episodes)
            self._update_current_progress_remaining(self.num_timesteps, total_steps)
            self._train_if_due(episodes)
            if log_interval is not None and self._episode_num >= next_log:
                next_log = self._episode_num + log_interval
                self.dump_logs()
        self._iteration_start = iteration_start(self)  # a last boundary

    @property
    def keeps_steps(self) -> bool:
        """Are observations, actions and rewards of each step learned from, or only what they amount to?"""
        return False

    def propose_candidates(self, n_candidates: int) -> Candidates:
        """The next candidates: what to act on, and reset ``seeds``."""
        raise NotImplementedError

    def make_actors(self, candidates: Any, chosen: slice, n_envs: int) -> Callable[[], Actors]:
        """What makes the actors of the chosen candidates in ``n_envs`` envs; workers get it pickled."""
        raise NotImplementedError

    def check_candidate(self, candidates: Any, index: int) -> Discard | None:
        """Why nothing may be learned from this candidate, whatever it did; None: it is fine."""
        return None

    def store_episode(self, candidates: Any, index: int, episode: Episode, episode_return: float) -> None:
        """Put one finished episode into the buffer; ``episode_return`` includes the alive bonus offset."""
        raise NotImplementedError

    def _candidate_rng(self, index: int) -> np.random.Generator:
        """A random generator that derives from the run's seed and the candidate's number alone."""
        key = (self._candidate_num + index,)
        return np.random.default_rng(np.random.SeedSequence(entropy=self.run_seed, spawn_key=key))

    def reset_seed(self, index: int) -> int:
        """The reset seed of a candidate; 0: the next one."""
        return int(self._candidate_rng(index).integers(2**31))

    def _lowest_returns(self, candidates: Any) -> list[np.ndarray | None]:
        """Which episodes to prune, see :func:`~sb3_gogepo.rollouts.rollout.run_actors`: one entry a candidate."""
        return [None] * len(candidates.seeds)

    @property
    def _updates_statistics(self) -> bool:
        """Do the observations of the next episodes enter the observation statistics?"""
        return self.normalize_observations

    def store_episodes(self, candidates: Candidates, episodes: list[Episode]) -> None:
        """Put what the candidates did into buffer and statistics, in the candidates' order.

        Discarded episodes, those with numbers that are not finite or too large for float32, and those of weights that are
        not finite leave no trace but their steps.

        :raises NonFiniteError: for such numbers, with ``on_non_finite="raise"``.
        :raises EnvFailedError: after 20 discarded episodes in a row.
        """
        assert self._collector is not None
        stored = []
        for i, episode in enumerate(episodes):
            episode_return = self._episode_return(episode)
            discard = episode.discarded or self.check_candidate(candidates, i) or find_too_large(episode, episode_return)
            if discard is not None:
                self._collector.discard(discard, number=self._candidate_num + i, seed=candidates.seeds[i])
                continue
            self._discarded_in_a_row = 0
            self.store_episode(candidates, i, episode, episode_return)
            stored.append(episode)
            self.best_return = max(episode_return, _or(self.best_return, episode_return))
            self.best_episode_return = max(episode_return, _or(self.best_episode_return, episode_return))
            self.worst_return = min(episode_return, _or(self.worst_return, episode_return))
        if self._updates_statistics:  # only now: all candidates acted with the same
            for episode in stored:
                episode.update_statistics(self.policy.normalizer)
        if stored:
            self.lowest_command = float(np.quantile(self._returns_to_ask_for(), LOWEST_QUANTILE))
        self._candidate_num += len(episodes)
        self._episode_num += len(episodes)
        self._log_candidates(candidates)
        if self.best_return is not None:
            self.logger.record("train/best_return", self.best_return)

    def _episode_return(self, episode: Episode) -> float:
        """The return to learn from: with the alive bonus offset, and an estimate if the episode was pruned."""
        episode_return, length = episode.as_if_whole()
        return episode_return + self.alive_bonus_offset * length

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
        self.logger.record("rollout/discarded_episodes", self._discarded_num)
        OffPolicyAlgorithm.dump_logs(self)  # type: ignore[arg-type]

    # ------------------------------------------------------------------ acting on commands

    @property
    def command_range(self) -> tuple[float, float]:
        """(lowest, highest) return, in return units, that can be asked for.

        The lowest is one that few of the stored policies or episodes fall below, the highest is the best seen; of a
        GoGePo with a state critic, less where that is one that several later policies have not reached.

        :raises ValueError: if nothing has been learned yet.
        """
        if self.best_return is None or self.worst_return is None:
            raise ValueError("command_range is known after the first episode: call learn or load a trained model")
        lowest = self.worst_return if self.lowest_command is None else self.lowest_command
        return lowest, self.best_return if self.highest_command is None else self.highest_command

    def _returns_to_ask_for(self) -> np.ndarray:
        """(n,) returns whose range commands are to come from."""
        return self.replay_buffer.stored_returns

    @property
    def command(self) -> float:
        """The return ``predict`` aims at, in return units: the best so far, until you set one (None: the best again)."""
        return self.policy.command

    @command.setter
    def command(self, value: float | None) -> None:
        if value is not None:
            self.policy.command = value
            warn_if_out_of_range(self, [value])
        elif self.best_return is not None:
            self._command_the_best()
        self._follows_best = value is None

    def _command_the_best(self) -> None:
        self.policy.command = self.command_range[1]

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
        return evaluate_commands(self, commands, n_eval_episodes, env, seed)
