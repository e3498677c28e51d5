"""WorkerPool: jobs -> outcomes in the jobs' order, whatever happens to the workers that run them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from sb3_gogepo.errors import EnvFailedError
from sb3_gogepo.rollouts.faults import MAX_DISCARDED_IN_A_ROW, warn
from sb3_gogepo.rollouts.rollout import Episode, OnStep, VecStep
from sb3_gogepo.rollouts.workers.episode_worker import Job, Outcome, failed
from sb3_gogepo.rollouts.workers.interface import Backend, WorkerLost


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

    def run(self, jobs: Sequence[Job], on_step: OnStep) -> list[Episode] | None:
        """The jobs' episodes, in their order.

        :param on_step: called for each step of the episodes, as by :func:`~sb3_gogepo.rollouts.rollout.run_actors` with
            one env, when the episode and all before it have ended; returning False abandons the others.
        :return: None if ``on_step`` returned False.
        :raises EnvFailedError: if workers keep dying.
        """
        episodes = []
        for outcome in self.outcomes(jobs):
            for _ in range(outcome.episode.length - 1):
                if not on_step(VecStep(1, np.array([False]), [{}])):
                    return None
            if not on_step(VecStep(1, np.array([True]), [outcome.info])):
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
