"""WorkerPool: jobs -> outcomes in the jobs' order, whatever happens to the workers that run them."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import cloudpickle
import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_gogepo.checks import check_choice, check_number
from sb3_gogepo.rollouts.faults import MAX_DISCARDED_IN_A_ROW, EnvFailedError, warn
from sb3_gogepo.rollouts.rollout import Episode
from sb3_gogepo.rollouts.workers.episode_worker import Job, Outcome, failed

__all__ = ["Backend", "Job", "PoolSettings", "Worker", "WorkerLost", "WorkerPool", "check_rollout", "copy_env", "make_backend"]


class WorkerLost(Exception):
    """A worker died while it ran a job; the message says what is known of the reason."""


class Worker(Protocol):
    """A process somewhere that makes its env first and then runs one job at a time."""

    def submit(self, job: Job) -> None:
        """Begin to run the job."""

    def result(self) -> Outcome | None:
        """What came of it (None: the worker is ready for its first job); raises :class:`WorkerLost` if it died."""

    def kill(self) -> None:
        """End the process at once, whatever it does."""


class Backend(Protocol):
    """Where workers live."""

    settings: PoolSettings

    def start(self) -> Worker:
        """A new worker."""

    def wait(self, workers: Sequence[Any], timeout_s: float) -> list[Any]:
        """Those of the workers that have a result or have died, after ``timeout_s`` seconds at most."""

    def close(self) -> None:
        """Free what the backend holds; all workers have been killed."""


class PoolSettings(NamedTuple):
    """``rollout_kwargs``.

    :param n_workers: ``rollout_workers``.
    :param episode_timeout_s: a worker that needs more seconds for an episode is killed, and the episode run again.
    :param start_timeout_s: the same for a worker that needs more seconds until its env is made.
    :param max_tries: times an episode is tried by workers that die or are too slow; then it is discarded.
    :param ray_init_kwargs: arguments of ``ray.init`` (``rollout_backend="ray"`` only), e.g. ``dict(address="auto")``. Not
        used if Ray is initialized already.
    """

    n_workers: int
    episode_timeout_s: float = 600.0
    start_timeout_s: float = 120.0
    max_tries: int = 3
    ray_init_kwargs: dict[str, Any] | None = None


def check_rollout(backend: str, n_workers: int | None, kwargs: dict[str, Any] | None) -> PoolSettings:
    """The settings of a pool, or a ValueError."""
    check_choice("rollout_backend", backend, ("in-process", "subprocess", "ray"))
    if backend == "in-process" and not (n_workers is None and kwargs is None):
        raise ValueError(
            'rollout_workers and rollout_kwargs need rollout_backend="subprocess" or "ray", '
            f"got {n_workers!r} and {kwargs!r} with {backend!r}"
        )
    if n_workers is not None:
        check_number("rollout_workers", n_workers, minimum=1, integer=True)
    allowed = PoolSettings._fields[1:] if backend == "ray" else PoolSettings._fields[1:-1]
    kwargs = dict(kwargs or {})
    for name in kwargs:
        check_choice("a key of rollout_kwargs", name, allowed)
    settings = PoolSettings(n_workers=n_workers or os.cpu_count() or 1, **kwargs)
    check_number("episode_timeout_s", settings.episode_timeout_s, minimum=0, exclusive=True)
    check_number("start_timeout_s", settings.start_timeout_s, minimum=0, exclusive=True)
    check_number("max_tries", settings.max_tries, minimum=1, integer=True)
    return settings


def copy_env(env: VecEnv) -> Callable[[], gym.Env]:
    """A function that makes copies of the (first) env of a DummyVecEnv.

    :raises ValueError: for another VecEnv, or an env that cannot be pickled.
    """
    if not isinstance(env, DummyVecEnv):
        raise ValueError(
            f"workers cannot copy the envs of a {type(env).__name__}: pass env as an id, a single env, or a function that "
            "makes one; in place of VecNormalize, use normalize_observations"
        )
    single = env.envs[0]
    while isinstance(single, Monitor):  # workers have a Monitor of their own; this one may hold an open file
        single = single.env
    try:
        pickled = cloudpickle.dumps(single)
    except Exception as error:
        raise ValueError(f"{single} cannot be pickled ({error}): pass env as a function that makes it") from error
    return lambda: cloudpickle.loads(pickled)


def make_backend(name: str, env_fn: Callable[[], gym.Env], settings: PoolSettings) -> Backend:
    """The backend called ``"subprocess"`` or ``"ray"``."""
    env_pickle = cloudpickle.dumps(env_fn)
    if name == "ray":
        from sb3_gogepo.rollouts.workers.ray_backend import RayBackend

        return RayBackend(env_pickle, settings)
    from sb3_gogepo.rollouts.workers.process_backend import ProcessBackend

    return ProcessBackend(env_pickle, settings)


class _Running(NamedTuple):
    job_index: int | None  # None: the worker gets ready
    deadline: float  # time.monotonic()
    timeout: str


class WorkerPool:
    """Keeps ``n_workers`` workers busy. A job whose worker dies or is too slow goes to another one.

    A job holds all that its episode depends on, and outcomes are handed out in the jobs' order. So they depend neither
    on the number of workers nor on what happens to them, unless a job has used up its tries.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend, self.settings = backend, backend.settings
        self.workers: list[Any] = []
        self._lost_in_a_row = 0

    def run(
        self, jobs: Sequence[Job], on_step: Callable[[int, list[dict[str, Any]], np.ndarray], bool]
    ) -> list[Episode] | None:
        """The jobs' episodes, in their order.

        :param on_step: called for each step of the episodes, as by :func:`~sb3_gogepo.rollouts.rollout.run_actors` with
            one env, when the episode and all before it have ended; returning False abandons the others.
        :return: None if ``on_step`` returned False.
        :raises EnvFailedError: if workers keep dying.
        """
        episodes = []
        for outcome in self.outcomes(jobs):
            for _ in range(outcome.episode.length - 1):
                if not on_step(1, [{}], np.array([False])):
                    return None
            if not on_step(1, [outcome.info], np.array([True])):
                return None
            episodes.append(outcome.episode)
        return episodes

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """The jobs' outcomes, in their order, each as soon as it and all before it are there."""
        finished: dict[int, Outcome] = {}
        tries = [0] * len(jobs)
        waiting = deque(range(len(jobs)))
        running: dict[Any, _Running] = {}
        try:
            for next_index in range(len(jobs)):
                while next_index not in finished:
                    self._hand_out(jobs, waiting, running, tries)
                    for worker, outcome in self._collect(running):
                        job_index = running.pop(worker).job_index
                        if job_index is None:
                            continue
                        if isinstance(outcome, Outcome):
                            finished[job_index] = outcome
                        elif tries[job_index] < self.settings.max_tries:
                            waiting.appendleft(job_index)
                        else:
                            finished[job_index] = failed(f"{tries[job_index]} workers were lost over it; the last: {outcome}")
                yield finished.pop(next_index)
        finally:
            for worker in running:  # the caller has gone: nobody wants these episodes
                self._discharge(worker)

    def _hand_out(self, jobs: Sequence[Job], waiting: deque[int], running: dict[Any, _Running], tries: list[int]) -> None:
        def run(worker: Any, job_index: int | None, timeout: str) -> None:
            running[worker] = _Running(job_index, time.monotonic() + getattr(self.settings, timeout), timeout)

        while waiting and len(running) < self.settings.n_workers:
            idle = [worker for worker in self.workers if worker not in running]
            if not idle:
                self.workers.append(self.backend.start())
                run(self.workers[-1], None, "start_timeout_s")
                continue
            job_index = waiting.popleft()
            tries[job_index] += 1
            run(idle[0], job_index, "episode_timeout_s")
            idle[0].submit(jobs[job_index])

    def _collect(self, running: dict[Any, _Running]) -> Iterable[tuple[Any, Outcome | str | None]]:
        """(worker, outcome, or why it is lost) of those that have something to say."""
        next_deadline = min(one.deadline for one in running.values())
        ready = self.backend.wait(list(running), max(next_deadline - time.monotonic(), 0.0))
        collected: list[tuple[Any, Outcome | str | None]] = []
        for worker in ready:
            try:
                collected.append((worker, worker.result()))
                if running[worker].job_index is not None:
                    self._lost_in_a_row = 0
            except WorkerLost as error:
                collected.append((worker, self._lose(worker, str(error))))
        for worker, one in running.items():
            if worker not in ready and time.monotonic() > one.deadline:
                reason = f"no result after {getattr(self.settings, one.timeout):g} s ({one.timeout})"
                collected.append((worker, self._lose(worker, reason)))
        return collected

    def _lose(self, worker: Any, reason: str) -> str:
        self._discharge(worker)
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= MAX_DISCARDED_IN_A_ROW:
            raise EnvFailedError(f"{self._lost_in_a_row} workers in a row were lost; the last one: {reason}")
        warn(f"a worker is lost and replaced: {reason}")
        return reason

    def _discharge(self, worker: Any) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
            worker.kill()

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers[:]:
            self._discharge(worker)
        self.backend.close()
