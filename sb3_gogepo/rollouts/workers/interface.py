"""What a pool of workers is made of: settings, backends that start workers, and workers that run jobs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from sb3_gogepo.checks import check_choice, check_number
from sb3_gogepo.rollouts.workers.episode_worker import Job, Outcome


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
