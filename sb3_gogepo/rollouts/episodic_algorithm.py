"""EpisodicAlgorithm: running episodes, in the env or in workers, and what happens to those that go wrong."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv

from sb3_gogepo.rollouts.faults import MAX_DISCARDED_IN_A_ROW, Discard, EnvFailedError, NonFiniteError, guarded, warn
from sb3_gogepo.rollouts.rollout import Actors, Episode, run_actors
from sb3_gogepo.rollouts.workers.pool import Job, PoolSettings, WorkerPool, check_rollout, copy_env, make_backend
from sb3_gogepo.saving.picklefree_algorithm import PicklefreeAlgorithm

#: Steps of an episode beyond which it may be one that never ends
LONG_EPISODE = 100_000


class EpisodicAlgorithm(PicklefreeAlgorithm):
    """Runs episodes for :class:`~sb3_gogepo.base.command_algorithm.CommandAlgorithm`, which has the parameters."""

    n_candidates: int | None
    normalize_observations: bool
    _candidate_num: int

    def _init_rollouts(
        self,
        on_non_finite: str,
        rollout_backend: str,
        rollout_workers: int | None,
        rollout_kwargs: dict[str, Any] | None,
        env_fn: Callable[[], gym.Env] | None,
    ) -> None:
        self.on_non_finite = on_non_finite
        self.rollout_backend = rollout_backend
        self.rollout_workers = rollout_workers
        self.rollout_kwargs = rollout_kwargs
        #: Makes the env of a worker; None: workers get copies of ``env``. Not saved.
        self.env_fn = env_fn
        self._pool: WorkerPool | None = None  # while learning
        self._is_learning = False
        self._is_stepping = False  # is a callback looking at a step of an episode that goes on?
        self._discarded_num = 0
        self._discarded_in_a_row = 0
        self._skipped_steps = 0  # gradient steps

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "env_fn", "_pool", "_is_learning", "_is_stepping"]

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """As SB3's; workers will run copies of this env, until ``env_fn`` is set."""
        super().set_env(env, force_reset=force_reset)
        self.env_fn = None

    @property
    def _pool_settings(self) -> PoolSettings:
        return check_rollout(self.rollout_backend, self.rollout_workers, self.rollout_kwargs)

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """``_is_learning`` within this context, however it is left."""
        self._is_learning = True
        try:
            yield
        finally:
            self._is_learning = False

    @contextmanager
    def _workers(self) -> Iterator[None]:
        """The workers, if there are any, live as long as this context."""
        if self.rollout_backend == "in-process":
            yield
            return
        assert self.env is not None
        self._pool = WorkerPool(make_backend(self.rollout_backend, self.env_fn or copy_env(self.env), self._pool_settings))
        try:
            yield
        finally:
            self._pool.close()
            self._pool = None

    def make_actors(self, candidates: Any, chosen: slice, n_envs: int) -> Callable[[], Actors]:
        """What makes the actors of the chosen candidates in ``n_envs`` envs; workers get it pickled."""
        raise NotImplementedError

    def collect_episodes(self, candidates: Any, callback: BaseCallback) -> list[Episode] | None:
        """One episode of each candidate; None if the callback stopped the training.

        Where workers run the episodes, their steps are counted and reported to the callback when an episode and all
        those before it are there, one by one in the candidates' order, as if one env had run them.
        """
        assert self.env is not None
        callback.on_rollout_start()
        on_step = self._step_counter(candidates, callback)
        keep_observations = self._keeps_steps or self._updates_statistics
        lowest_returns = self._lowest_returns()
        if self._pool is None:
            n_envs = self.env.num_envs
            with guarded(self.env):
                episodes = run_actors(
                    self.env,
                    self.make_actors(candidates, slice(None), n_envs)(),
                    candidates.seeds,
                    on_step=on_step,
                    keep_observations=keep_observations,
                    keep_actions=self._keeps_steps,
                    lowest_returns=lowest_returns,
                )
        else:
            jobs = [
                Job(
                    make_actors=self.make_actors(candidates, slice(i, i + 1), 1),
                    seed=seed,
                    keep_observations=keep_observations,
                    keep_steps=self._keeps_steps,
                    lowest_returns=lowest_returns,
                )
                for i, seed in enumerate(candidates.seeds)
            ]
            episodes = self._pool.run(jobs, on_step)
        if episodes is not None:  # no callback said stop
            callback.on_rollout_end()
        return episodes

    def _lowest_returns(self) -> np.ndarray | None:
        """Which episodes to prune, see :func:`~sb3_gogepo.rollouts.rollout.run_actors`; None: no pruning."""
        return None

    @property
    def _n_candidates(self) -> int:
        """Episodes of the next iteration."""
        return self.n_candidates or (self.n_envs if self._pool is None else self._pool_settings.n_workers)

    def _step_counter(
        self, candidates: Any, callback: BaseCallback
    ) -> Callable[[int, list[dict[str, Any]], np.ndarray], bool]:
        """What to call after each env step: counts it and asks the callback whether to go on."""
        n_before = self.num_timesteps
        suspicious = max(self._total_timesteps, LONG_EPISODE * len(candidates.seeds))

        def on_step(n_steps: int, infos: list[dict[str, Any]], dones: np.ndarray) -> bool:
            self.num_timesteps += n_steps
            if n_before + suspicious in range(self.num_timesteps - n_steps, self.num_timesteps):  # once
                warnings.warn(
                    f"the present episodes have made {suspicious} env steps, and nothing is learned before they have ended. "
                    "Has the env a time limit (gymnasium.wrappers.TimeLimit)?",
                    stacklevel=2,
                )
            self._update_info_buffer(infos, dones)
            callback.update_locals({"self": self, "infos": infos, "dones": dones, "candidates": candidates})
            self._is_stepping = True
            try:
                return callback.on_step()
            finally:
                self._is_stepping = False

        return on_step

    #: Are observations, actions and rewards of each step needed, or only what they amount to?
    _keeps_steps: ClassVar[bool] = False

    @property
    def _updates_statistics(self) -> bool:
        """Do the observations of the next episodes enter the observation statistics?"""
        return self.normalize_observations

    def check_candidate(self, candidates: Any, index: int) -> Discard | None:
        """Why nothing may be learned from this candidate, whatever it did; None: it is fine."""
        return None

    def _discard(self, discard: Discard, number: int, seed: int) -> None:
        """Count and report an episode that is not learned from."""
        self._discarded_num += 1
        self._discarded_in_a_row += 1
        message = f"candidate {number} (reset seed {seed}): {discard.reason}"
        if self.on_non_finite == "raise" and not discard.is_fault:
            raise NonFiniteError(message)
        if self._discarded_in_a_row >= MAX_DISCARDED_IN_A_ROW:
            raise EnvFailedError(f"{self._discarded_in_a_row} episodes in a row had to be discarded; the last one: {message}")
        warn(f"an episode is discarded: {message}")

    def _record_losses(self, **losses: list[th.Tensor]) -> None:
        """Log the mean loss of each kind; those that are nan stand for gradient steps that were not made."""
        for name, values in losses.items():
            if not values:
                continue
            stacked = th.stack(values).cpu()
            made = stacked[th.isfinite(stacked)]
            n_skipped = len(stacked) - len(made)
            self.logger.record(f"train/{name}", made.mean().item() if len(made) else math.nan)
            if not n_skipped:
                continue
            self._skipped_steps += n_skipped
            message = f"{name} or its gradient was not finite in {n_skipped} of {len(stacked)} gradient steps"
            if self.on_non_finite == "raise":
                raise NonFiniteError(f"{message}; they were not made")
            warn(f"{message}, which were skipped")
        self.logger.record("train/skipped_steps", self._skipped_steps)


def find_too_large(episode: Episode, episode_return: float) -> Discard | None:
    """Networks and buffers hold float32: what is too large for that becomes infinite there."""
    parts = {"return": episode_return, "observation": episode.observations, "action": episode.actions}
    parts["squared observation"] = None if episode.moments is None else np.stack([episode.moments.mean, episode.moments.var])
    for name, part in parts.items():
        if part is not None and not (np.abs(part) <= np.finfo(np.float32).max).all():
            return Discard(f"{name} of up to {np.abs(part).max():.3g} at one of its {episode.length} steps", is_fault=False)
    return None
