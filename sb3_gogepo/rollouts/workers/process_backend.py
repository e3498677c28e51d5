"""ProcessBackend: workers in processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import cloudpickle
import torch as th

from sb3_gogepo.rollouts.workers.episode_worker import EpisodeWorker, Job, Outcome
from sb3_gogepo.rollouts.workers.interface import PoolSettings, WorkerLost

#: Name of a worker's process, and the exit code of one that came upon ``learn`` while it imported the program
WORKER_NAME, NO_MAIN_GUARD = "sb3_gogepo worker", 86
NO_MAIN_GUARD_MESSAGE = (
    'rollout_backend="subprocess" starts processes that import your program, so what it does must stand below '
    'if __name__ == "__main__": (or use rollout_backend="in-process")'
)


def check_main_guard() -> None:
    """Raise, or end a worker's process so that its parent raises, if this process is still importing the program.

    :raises RuntimeError: naming the ``__main__`` guard.
    """
    process = mp.current_process()
    if not getattr(process, "_inheriting", False):
        return
    if process.name == WORKER_NAME:
        os._exit(NO_MAIN_GUARD)
    raise RuntimeError(NO_MAIN_GUARD_MESSAGE)


class ProcessBackend:
    """Forks workers off a server process, as SubprocVecEnv does, that has the package imported already.

    :raises RuntimeError: naming the ``__main__`` guard, if the program lacks it.
    """

    def __init__(self, env_pickle: bytes, settings: PoolSettings) -> None:
        check_main_guard()
        self.env_pickle, self.settings = env_pickle, settings
        has_forkserver = "forkserver" in mp.get_all_start_methods()
        self.context: Any = mp.get_context("forkserver" if has_forkserver else "spawn")
        if has_forkserver:
            self.context.set_forkserver_preload([__name__])

    def start(self) -> ProcessWorker:
        """A new process."""
        return ProcessWorker(self.context, self.env_pickle)

    def wait(self, workers: Sequence[ProcessWorker], timeout_s: float) -> list[ProcessWorker]:
        """Those that have sent something, or whose end of the pipe is closed."""
        ready = wait([worker.connection for worker in workers], timeout_s)
        return [worker for worker in workers if worker.connection in ready]

    def close(self) -> None:
        """Nothing: the server process ends with this one."""


class ProcessWorker:
    """The driver's end of a worker's pipe."""

    def __init__(self, context: Any, env_pickle: bytes) -> None:
        self.connection, other_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(other_end, env_pickle), name=WORKER_NAME, daemon=True)
        self.process.start()
        other_end.close()

    def submit(self, job: Job) -> None:
        """Send the job; if the process is dead, :meth:`result` will say so."""
        with contextlib.suppress(ConnectionError):
            self.connection.send_bytes(cloudpickle.dumps(job))

    def result(self) -> Outcome | None:
        """Receive the outcome, or that the env is made.

        :raises WorkerLost: if the process has ended.
        :raises RuntimeError: if it has ended because the program has no ``__main__`` guard.
        """
        try:
            kind, content = cloudpickle.loads(self.connection.recv_bytes())
        except (EOFError, ConnectionError):
            self.process.join(5)
            if self.process.exitcode == NO_MAIN_GUARD:
                raise RuntimeError(NO_MAIN_GUARD_MESSAGE) from None
            raise WorkerLost(f"process {self.process.pid} ended with exit code {self.process.exitcode}") from None
        if kind == "error":
            raise content
        return content

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection, env_pickle: bytes) -> None:
    th.set_num_threads(1)  # there are as many workers as cores
    parent = mp.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    worker = EpisodeWorker(env_pickle)
    worker.make_env()  # if it fails, the first job says so
    connection.send_bytes(cloudpickle.dumps(("ready", None)))
    while True:
        try:
            job = cloudpickle.loads(connection.recv_bytes())
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer: tuple[str, Any] = ("outcome", worker.run(job))
        except Exception as error:  # not the env's fault: that is in the outcome
            answer = ("error", error)
        connection.send_bytes(cloudpickle.dumps(answer))


def _end_with(parent_sentinel: int) -> None:
    """End this process when its parent does, even in the midst of an endless episode."""
    wait([parent_sentinel])
    os._exit(1)
