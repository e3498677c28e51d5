"""RayBackend: workers are Ray actors, on this machine or on a cluster."""

from __future__ import annotations

import copy
import os
import secrets
import warnings
from collections.abc import Sequence
from typing import Any
from unittest import mock

from sb3_gogepo.rollouts.workers.episode_worker import EpisodeWorker, Job, Outcome
from sb3_gogepo.rollouts.workers.interface import PoolSettings, WorkerLost


def import_ray() -> Any:
    """The module ray.

    :raises ImportError: saying what to install.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError('rollout_backend="ray" needs Ray: pip install "sb3-gogepo[ray]"') from error
    return ray


def _start_local_ray(ray: Any, **kwargs: Any) -> None:
    """``ray.init`` on the loopback interface, with a token that only this process and its children know.

    Ray itself demands tokens of the clusters it starts, unless the user sets ``RAY_AUTH_MODE``; it would keep a new one
    in ``~/.ray/auth_token``. The addresses it listens on follow from a constant that ray.init has no argument for.
    """
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with mock.patch.object(ray._private.ray_constants, "ENABLE_RAY_CLUSTER", False, create=True):
        ray.init(_node_ip_address="127.0.0.1", **kwargs)
    if ray.util.get_node_ip_address() != "127.0.0.1":
        warnings.warn(
            f"Ray {ray.__version__} listens on all network interfaces; its token alone keeps others out", stacklevel=2
        )


class RayBackend:
    """One Ray core actor a worker, with one CPU each.

    Uses the cluster that this process is connected to, or ``ray.init(**ray_init_kwargs)``. By default that starts Ray on
    this machine: reachable from this machine only, with a token made for this run and without dashboard.

    :raises ImportError: if Ray is missing.
    :raises ValueError: if the cluster has fewer CPUs than there are workers.
    """

    def __init__(self, env_pickle: bytes, settings: PoolSettings) -> None:
        kwargs = dict(settings.ray_init_kwargs or {})
        self.settings, self.env_pickle = settings, env_pickle
        self.ray = import_ray()
        self.started_ray = not self.ray.is_initialized()
        if self.started_ray:
            kwargs.setdefault("log_to_driver", False)
            if kwargs.keys() & {"address", "_node_ip_address"} or "RAY_ADDRESS" in os.environ:
                self.ray.init(**kwargs)
            else:
                _start_local_ray(self.ray, **{"num_cpus": settings.n_workers, "include_dashboard": False, **kwargs})
        n_cpus = int(self.ray.cluster_resources().get("CPU", 0))
        if n_cpus < settings.n_workers:
            self.close()
            raise ValueError(
                f"rollout_workers must be at most {n_cpus}, the CPUs of the Ray cluster, got {settings.n_workers}"
            )
        self.actor_class = self.ray.remote(EpisodeWorker).options(num_cpus=1, max_restarts=0)

    def start(self) -> RayWorker:
        """A new actor."""
        return RayWorker(self.ray, self.actor_class.remote(self.env_pickle))

    def wait(self, workers: Sequence[RayWorker], timeout_s: float) -> list[RayWorker]:
        """Those whose result is there, be it an error."""
        references = [worker.reference for worker in workers]
        ready, _ = self.ray.wait(references, num_returns=1, timeout=timeout_s)
        if ready:  # and those that are there as well
            ready, _ = self.ray.wait(references, num_returns=len(references), timeout=0)
        return [worker for worker in workers if worker.reference in ready]

    def close(self) -> None:
        """Leave the cluster, or end it, if this object joined or started it."""
        if self.started_ray:
            self.ray.shutdown()


class RayWorker:
    """The driver's handle on an actor."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self.ray, self.actor = ray, actor
        self.reference = actor.make_env.remote()
        self.is_ready = False

    def submit(self, job: Job) -> None:
        """Call the actor's ``run``."""
        self.reference = self.actor.run.remote(job)

    def result(self) -> Outcome | None:
        """Get what ``run`` returned, or, the first time, None: the env is made (if not, the first job says so).

        :raises WorkerLost: if the actor died, or could not be made.
        """
        exceptions = self.ray.exceptions
        try:
            outcome = copy.deepcopy(self.ray.get(self.reference))  # Ray's own arrays are read-only, and end with Ray
        except exceptions.RayTaskError:  # what run itself raises is no env's fault: those are in the outcome
            raise
        except exceptions.RayError as error:
            raise WorkerLost(f"{type(error).__name__}: {error}") from None
        was_ready, self.is_ready = self.is_ready, True
        return outcome if was_ready else None

    def kill(self) -> None:
        """End the actor's process."""
        self.ray.kill(self.actor)
