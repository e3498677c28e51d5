"""EpisodeWorker: one env that runs one episode after the other, in a process or on a machine of its own."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_gogepo.networks.normalization import Moments
from sb3_gogepo.rollouts.faults import DISCARDED, Discard
from sb3_gogepo.rollouts.make_turns import make_turns
from sb3_gogepo.rollouts.pruning import PRUNED
from sb3_gogepo.rollouts.rollout import Actors, Episode, VecStep, run_actors

#: What the driver is told of an episode's last ``info``
REPORTED_INFOS = ("episode", "is_success", DISCARDED, PRUNED)


class Job(NamedTuple):
    """One episode to be run. Whoever runs it, and however often, gets the same episode.

    :param make_actors: makes actors with one candidate for one env; can be pickled by cloudpickle.
    :param seed: reset seed.
    :param keep_observations: are the observations needed, or (without ``keep_steps``) their moments?
    :param keep_steps: are observations, actions and rewards of each step needed?
    :param lowest_returns: see :func:`~sb3_gogepo.rollouts.rollout.run_actors`.
    """

    make_actors: Callable[[], Actors]
    seed: int
    keep_observations: bool
    keep_steps: bool
    lowest_returns: np.ndarray | None = None


class Outcome(NamedTuple):
    """What came of a job: the episode, and what is to be reported of its last ``info``."""

    episode: Episode
    info: dict[str, Any]


def failed(reason: str) -> Outcome:
    """The outcome of a job that got no episode. It counts as one step, so that training comes to an end."""
    discard = Discard(reason, is_fault=True)
    return Outcome(Episode(episode_return=0.0, length=1, observations=None, discarded=discard), {DISCARDED: reason})


class EpisodeWorker:
    """Runs episodes in an env of its own, which is made anew after it failed.

    :param env_pickle: function without arguments that makes the env, pickled by cloudpickle.
    """

    def __init__(self, env_pickle: bytes) -> None:
        self.env_pickle = env_pickle
        self.env: DummyVecEnv | None = None

    def make_env(self) -> str | None:
        """Make the env unless it is there; returns the traceback if it cannot be made."""
        if self.env is None:
            try:
                self.env = DummyVecEnv([lambda: Monitor(cloudpickle.loads(self.env_pickle)())])
            except Exception:
                return traceback.format_exc()
        return None

    def run(self, job: Job) -> Outcome:
        """Run the episode. What the env raises ends the episode and is in the outcome."""
        if problem := self.make_env():
            return failed(f"the env could not be made:\n{problem}")
        assert self.env is not None
        infos: list[dict[str, Any]] = []

        def on_step(step: VecStep) -> bool:
            infos[:] = step.infos
            return True

        with make_turns(self.env) as turns:
            episodes = run_actors(
                self.env,
                job.make_actors(),
                [job.seed],
                on_step=on_step,
                keep_observations=job.keep_observations,
                keep_actions=job.keep_steps,
                lowest_returns=[job.lowest_returns],
                turns=turns,
            )
        assert episodes is not None
        episode = episodes[0]
        if episode.discarded is not None and episode.discarded.is_fault:
            self._close_env()
        if not job.keep_steps and episode.observations is not None:
            episode = episode._replace(observations=None, moments=Moments.of(episode.observations))
        return Outcome(episode, {key: infos[0][key] for key in REPORTED_INFOS if key in infos[0]})

    def _close_env(self) -> None:
        env, self.env = self.env, None
        try:
            if env is not None:
                env.close()
        except Exception:
            traceback.print_exc()  # a broken env may not even close; it is given up anyway
