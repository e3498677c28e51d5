"""EpisodeCollector: one episode of each candidate, in the env or in workers; counts their steps and asks the callback."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_gogepo.errors import EnvFailedError, NonFiniteError
from sb3_gogepo.rollouts.env_copies import refuse_changes
from sb3_gogepo.rollouts.faults import MAX_DISCARDED_IN_A_ROW, Discard, warn
from sb3_gogepo.rollouts.make_turns import make_turns
from sb3_gogepo.rollouts.rollout import Actors, Episode, VecStep, run_actors
from sb3_gogepo.rollouts.workers.episode_worker import Job
from sb3_gogepo.rollouts.workers.interface import check_rollout
from sb3_gogepo.rollouts.workers.make_backend import copy_env, make_backend
from sb3_gogepo.rollouts.workers.pool import WorkerPool

#: Steps of an episode beyond which it may be one that never ends
LONG_EPISODE = 100_000


class Candidates(Protocol):
    """Who is about to act: commands (n_candidates,) in return units, and reset seeds, one a candidate."""

    @property
    def commands(self) -> np.ndarray:
        """(n_candidates,)"""

    @property
    def seeds(self) -> list[int]:
        """One a candidate."""


class Model(Protocol):
    """The algorithm whose episodes are collected. It keeps all counters, since they are saved with it."""

    _collector: EpisodeCollector | None
    env: VecEnv | None
    n_envs: int
    num_timesteps: int
    rollout_backend: str
    rollout_workers: int | None
    rollout_kwargs: dict[str, Any] | None
    env_fn: Callable[[], gym.Env] | None
    on_non_finite: str
    _last_obs: Any
    _total_timesteps: int
    _discarded_num: int
    _discarded_in_a_row: int

    def make_actors(self, candidates: Any, chosen: slice, n_envs: int) -> Callable[[], Actors]:
        """What makes the actors of the chosen candidates in ``n_envs`` envs; workers get it pickled."""

    def reset_seed(self, index: int) -> int:
        """The reset seed of a candidate; 0: the next one."""

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray | None = None) -> None: ...


class StepCounter:
    """Counts env steps, and asks the callback once every ``n_envs`` of them: as often as SB3's algorithms do.

    Where all envs are busy, that is after each step of the VecEnv. Where some wait for others, the steps of several are
    shown together: the latest observations and actions, the sum of the rewards, all that is done.

    :param model: has ``num_timesteps`` and ``_update_info_buffer``.
    """

    def __init__(self, model: Any, callback: BaseCallback) -> None:
        self.model, self.callback = model, callback
        self.is_asking = False
        self._shown: VecStep | None = None  # what the callback has not seen yet
        self._unasked = 0  # env steps since it was asked, less those it was asked too early

    def __call__(self, step: VecStep, **more_locals: Any) -> bool:
        """One step of the VecEnv; False if the callback said stop.

        :param more_locals: for the callback's ``locals``.
        """
        goes_on = True
        if self._shown is not None and bool((self._shown.dones & step.dones).any()):
            goes_on = self.ask(**more_locals)
        self.model.num_timesteps += step.n_active
        self.model._update_info_buffer(step.infos, step.dones)
        self._shown = step if self._shown is None else _join(self._shown, step)
        self._unasked += step.n_active
        if self._unasked >= len(step.dones):
            goes_on = self.ask(**more_locals) and goes_on
        return goes_on

    def ask(self, **more_locals: Any) -> bool:
        """Show what the callback has not seen, if there is anything; False if it says stop."""
        if self._shown is None:
            return True
        step, self._shown = self._shown, None
        self._unasked -= len(step.dones)
        parts = {"new_obs": step.observations, "actions": step.actions, "rewards": step.rewards}
        self.callback.update_locals(
            {
                "self": self.model,
                "env": self.model.env,
                "infos": step.infos,
                "dones": step.dones,
                **{name: part for name, part in parts.items() if part is not None},
                **more_locals,
            }
        )
        self.is_asking = True
        try:
            return self.callback.on_step()
        finally:
            self.is_asking = False


def _join(first: VecStep, second: VecStep) -> VecStep:
    """Two steps as one; no env is done in both."""
    infos = [a if done else b or a for a, b, done in zip(first.infos, second.infos, first.dones, strict=True)]
    rewards = None if first.rewards is None or second.rewards is None else first.rewards + second.rewards
    return second._replace(
        n_active=first.n_active + second.n_active, dones=first.dones | second.dones, infos=infos, rewards=rewards
    )


class EpisodeCollector:
    """Runs the episodes of ``model.learn``; a context in which the env, or the workers, do what it says.

    :param keep_steps: are observations, actions and rewards of each step needed, or only what they amount to?
    """

    def __init__(self, model: Model, keep_steps: bool = False) -> None:
        assert model.env is not None
        self.model, self.env, self.keep_steps = model, model.env, keep_steps
        self.settings = check_rollout(model.rollout_backend, model.rollout_workers, model.rollout_kwargs)
        self.has_workers = model.rollout_backend != "in-process"
        self._pool: WorkerPool | None = None
        self._context = ExitStack()

    def __enter__(self) -> EpisodeCollector:
        if self.has_workers:
            env_fn = self.model.env_fn or copy_env(self.env)
            self._pool = WorkerPool(make_backend(self.model.rollout_backend, env_fn, self.settings))
            self._context.callback(self._pool.close)
        else:
            self._turns = self._context.enter_context(make_turns(self.env))
            self._turns.begin([], next_seeds=self._next_seeds(after=0))  # for the reset with which learn begins
        self.model._collector = self
        return self

    def start(self, callback: BaseCallback) -> None:
        """Whom to ask after each step. Call it when SB3's ``_setup_learn`` has reset the env."""
        self.callback, self.steps = callback, StepCounter(self.model, callback)
        if self.has_workers:
            self._context.callback(refuse_changes(self.env, self.model.rollout_backend))
        else:
            self._turns.observations = self.model._last_obs

    def __exit__(self, *_: object) -> None:
        self.model._collector = None
        self._context.close()

    def _next_seeds(self, after: int, n_candidates: int | None = None) -> list[int]:
        """Reset seeds with which the candidates will begin that come ``after`` so many others."""
        n_first = min(self.env.num_envs, n_candidates or self.env.num_envs)
        return [self.model.reset_seed(after + i) for i in range(n_first)]

    @property
    def n_at_once(self) -> int:
        """Episodes that run at the same time."""
        return self.settings.n_workers if self.has_workers else self.model.n_envs

    @property
    def is_asking(self) -> bool:
        """Is a callback looking at a step of an episode that goes on?"""
        return self.steps.is_asking

    def collect(
        self, candidates: Candidates, keep_observations: bool, lowest_returns: Sequence[np.ndarray | None]
    ) -> list[Episode] | None:
        """One episode of each candidate; None if the callback stopped the training.

        Where workers run the episodes, their steps are counted and reported to the callback when an episode and all
        those before it are there, one by one in the candidates' order, as if one env had run them.

        :param keep_observations: are the observations needed?
        :param lowest_returns: which episodes to prune, see :func:`~sb3_gogepo.rollouts.rollout.run_actors`.
        """
        self.callback.on_rollout_start()
        n_before = self.model.num_timesteps
        suspicious = max(self.model._total_timesteps, LONG_EPISODE * len(candidates.seeds))

        def on_step(step: VecStep) -> bool:
            n_made = self.model.num_timesteps - n_before
            if n_made < suspicious <= n_made + step.n_active:
                warnings.warn(
                    f"the present episodes have made {suspicious} env steps, and nothing is learned before they have ended. "
                    "Has the env a time limit (gymnasium.wrappers.TimeLimit)?",
                    stacklevel=2,
                )
            return self.steps(step, candidates=candidates)

        if self._pool is None:
            episodes = run_actors(
                self.env,
                self.model.make_actors(candidates, slice(None), self.env.num_envs)(),
                candidates.seeds,
                on_step=on_step,
                keep_observations=keep_observations or self.keep_steps,
                keep_actions=self.keep_steps,
                lowest_returns=lowest_returns,
                turns=self._turns,
                next_seeds=self._next_seeds(after=len(candidates.seeds), n_candidates=len(candidates.seeds)),
            )
        else:
            jobs = [
                Job(
                    make_actors=self.model.make_actors(candidates, slice(i, i + 1), 1),
                    seed=seed,
                    keep_observations=keep_observations or self.keep_steps,
                    keep_steps=self.keep_steps,
                    lowest_returns=lowest_returns[i],
                )
                for i, seed in enumerate(candidates.seeds)
            ]
            episodes = self._pool.run(jobs, on_step)
        if episodes is None or not self.steps.ask(candidates=candidates):
            return None
        self.callback.on_rollout_end()
        return episodes

    def discard(self, discard: Discard, number: int, seed: int) -> None:
        """Count and report an episode that is not learned from.

        :param number: of the candidate.
        :raises NonFiniteError: for numbers that are not finite, with ``on_non_finite="raise"``.
        :raises EnvFailedError: after 20 such episodes in a row.
        """
        self.model._discarded_num += 1
        self.model._discarded_in_a_row += 1
        message = f"candidate {number} (reset seed {seed}): {discard.reason}"
        if self.model.on_non_finite == "raise" and not discard.is_fault:
            raise NonFiniteError(message)
        n_in_a_row = self.model._discarded_in_a_row
        if n_in_a_row >= MAX_DISCARDED_IN_A_ROW:
            raise EnvFailedError(f"{n_in_a_row} episodes in a row had to be discarded; the last one: {message}")
        warn(f"an episode is discarded: {message}")


def find_too_large(episode: Episode, episode_return: float) -> Discard | None:
    """Networks and buffers hold float32: what is too large for that becomes infinite there."""
    parts = {"return": episode_return, "observation": episode.observations, "action": episode.actions}
    parts["last observation"] = episode.last_observation
    parts["squared observation"] = None if episode.moments is None else np.stack([episode.moments.mean, episode.moments.var])
    for name, part in parts.items():
        if part is not None and not (np.abs(part) <= np.finfo(np.float32).max).all():
            return Discard(f"{name} of up to {np.abs(part).max():.3g} at one of its {episode.length} steps", is_fault=False)
    return None
