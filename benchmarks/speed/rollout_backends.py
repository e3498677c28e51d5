"""When do workers pay? Episodes a second in this process, in worker processes and on Ray, by length of the episode.

``python -m benchmarks.speed.rollout_backends`` writes ``benchmarks/results/rollout_backends.json`` and prints a table.
An episode has ten steps and sleeps: it stands for a simulator that waits, or runs on cores of its own, so what is
measured is the cost of handing episodes out. Each job carries the weights of a 2x256 policy for Hopper, 280 kB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_gogepo.networks.action_map import ActionMap
from sb3_gogepo.networks.normalization import ObservationNormalizer
from sb3_gogepo.networks.policy_weights import WeightLayout
from sb3_gogepo.rollouts.rollout import PolicyActors, run_actors
from sb3_gogepo.rollouts.workers.episode_worker import Job
from sb3_gogepo.rollouts.workers.interface import PoolSettings
from sb3_gogepo.rollouts.workers.make_backend import make_backend
from sb3_gogepo.rollouts.workers.pool import WorkerPool

RESULTS = Path(__file__).parents[1] / "results" / "rollout_backends.json"
EPISODE_MS = (1, 10, 100)
LAYOUT = WeightLayout((11, 256, 256, 3))
N_STEPS = 10


class SleepingEnv(gym.Env):
    """``N_STEPS`` steps that sleep for ``episode_ms`` all together."""

    def __init__(self, episode_ms: float) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (LAYOUT.layer_sizes[0],), np.float32)
        self.action_space = spaces.Box(-1, 1, (LAYOUT.layer_sizes[-1],), np.float32)
        self.step_s = episode_ms / 1000 / N_STEPS
        self.observation = np.ones(LAYOUT.layer_sizes[0], np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """The only observation there is."""
        super().reset(seed=seed)
        self.t = 0
        return self.observation, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Sleep."""
        self.t += 1
        time.sleep(self.step_s)
        return self.observation, 1.0, self.t >= N_STEPS, False, {}


def make_jobs(n_jobs: int) -> list[Job]:
    policy_weights = th.randn(n_jobs, LAYOUT.n_weights, generator=th.Generator().manual_seed(0))
    normalize = ObservationNormalizer(LAYOUT.layer_sizes[0]).frozen()
    action_map = ActionMap(spaces.Box(-1, 1, (LAYOUT.layer_sizes[-1],), np.float32))
    return [
        Job(partial(PolicyActors, LAYOUT, weights.clone()[None], th.nn.Tanh(), action_map, normalize, 1), i, True, False)
        for i, weights in enumerate(policy_weights)
    ]


def episodes_per_second(backend: str, n_workers: int, episode_ms: float, seconds: float) -> float:
    """Of batches of ``8 * n_workers`` jobs (a training's iterations), for about so many seconds."""
    jobs = make_jobs(8 * n_workers)
    env_fn = partial(SleepingEnv, episode_ms)
    if backend == "in-process":
        env = DummyVecEnv([env_fn])
        n, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            for job in jobs:
                run_actors(env, job.make_actors(), [job.seed], keep_observations=True)
            n += len(jobs)
        return n / (time.perf_counter() - start)
    pool = WorkerPool(make_backend(backend, env_fn, PoolSettings(n_workers=n_workers)))
    try:
        list(pool.outcomes(jobs))  # start the workers
        n, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            n += len(list(pool.outcomes(jobs)))
        return n / (time.perf_counter() - start)
    finally:
        pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--backends", nargs="+", default=["subprocess", "ray"])
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    th.set_num_threads(1)
    if "ray" in arguments.backends:
        make_backend("ray", gym.Env, PoolSettings(n_workers=max(arguments.workers)))  # one Ray for all measurements
    kinds = [("in-process", 1), *((backend, n) for backend in arguments.backends for n in arguments.workers)]
    rows: list[dict[str, Any]] = []
    for backend, n_workers in kinds:
        rates = {ms: episodes_per_second(backend, n_workers, ms, arguments.seconds) for ms in EPISODE_MS}
        load = round(os.getloadavg()[0], 1)
        rows.append(dict(backend=backend, n_workers=n_workers, load=load, episodes_per_second=rates))
        print(f"| {backend}, {n_workers} | " + " | ".join(f"{rate:.1f}" for rate in rates.values()) + " |", flush=True)
    job_bytes = len(cloudpickle.dumps(make_jobs(1)[0]))
    machine = dict(n_cpus=os.cpu_count(), python=platform.python_version(), torch=th.__version__)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    content = dict(machine=machine, job_bytes=job_bytes, seconds=arguments.seconds, rows=rows)
    arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
