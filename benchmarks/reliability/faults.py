"""What survives faulty envs and killed workers: ``python -m benchmarks.reliability.faults`` writes the page's figures.

Results go to ``benchmarks/results/reliability/faults.json``. Parts can be measured alone: ``--only equal kills``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing as mp
import platform
import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray
import torch as th
from sb3_contrib import ARS
from sb3_contrib.common.vec_env import AsyncEval
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from benchmarks.reliability.faulty_env import FAULTS, FaultyEnv
from sb3_gogepo import UDRL, UDRLPG, GoGePo, __version__
from sb3_gogepo.rollouts.workers.interface import PoolSettings
from sb3_gogepo.rollouts.workers.ray_backend import RayBackend

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "reliability" / "faults.json"
SMALL_GENERATOR = dict(net_arch=[8], tile_size=8, generator_net_arch=[8], embedding_dim=4)
#: small networks: what is measured here are workers, not learning
SMALL: dict[Any, dict[str, Any]] = {
    GoGePo: dict(
        policy_kwargs=dict(SMALL_GENERATOR, n_probing_states=5, evaluator_net_arch=[8]),
        generator_gradient_steps=2,
        evaluator_gradient_steps=2,
    ),
    UDRLPG: dict(policy_kwargs=SMALL_GENERATOR, gradient_steps=2),
    UDRL: dict(policy_kwargs=dict(net_arch=[8]), n_warm_up_episodes=8, gradient_steps=2),
}
BACKENDS = ("subprocess", "ray")
ON_WORKERS: dict[str, Any] = dict(n_candidates=8, seed=1, device="cpu")
#: A training that takes longer than so many seconds of wall time is said to hang; one whose envs hang now and then takes 50
HANG_LIMIT_S = 180.0


def digest(model: Any) -> str:
    """Of all that the model has learned."""
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in model.policy.state_dict().values())).hexdigest()


def learn(algorithm: Any, n_steps: int, callback: BaseCallback | None = None, step_s: float = 0.0, **kwargs: Any) -> Any:
    env_fn = partial(FaultyEnv, step_s=step_s)
    return algorithm("MlpPolicy", env_fn, **{**SMALL[algorithm], **ON_WORKERS, **kwargs}).learn(n_steps, callback)


# ---------------------------------------------------------------- equal results


def measure_equality(backends: list[str]) -> dict[str, Any]:
    """The same training on 1, 2 and 4 envs or workers, in-process and on each backend."""
    results = {}
    for algorithm in SMALL:
        expected = digest(learn(algorithm, 2000))
        equal = {}
        for n_envs in (1, 2, 4):
            env = make_vec_env(FaultyEnv, n_envs)
            kwargs = {**SMALL[algorithm], **ON_WORKERS}
            equal[f"in-process {n_envs}"] = digest(algorithm("MlpPolicy", env, **kwargs).learn(2000)) == expected
            for backend in backends:
                model = learn(algorithm, 2000, rollout_backend=backend, rollout_workers=n_envs)
                equal[f"{backend} {n_envs}"] = digest(model) == expected
        results[algorithm.__name__] = equal
        print(algorithm.__name__, equal, flush=True)
    return results


# ---------------------------------------------------------------- killed workers


class Killer(BaseCallback):
    """Kills one worker, or all, at some moment of each iteration; keeps a digest of each iteration's results.

    :param n_kills: iterations in which it kills; 0: it only watches.
    """

    def __init__(self, n_kills: int, kill_all: bool, episode_s: float) -> None:
        super().__init__()
        self.n_kills, self.kill_all, self.episode_s = n_kills, kill_all, episode_s
        self.random = random.Random(0)
        self.digests: list[str] = []
        self.n_killed = 0
        self.timer: threading.Timer | None = None

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if len(self.digests) < self.n_kills:
            self.timer = threading.Timer(self.random.uniform(0.2, 1.5) * self.episode_s, self._kill)
            self.timer.start()

    def _kill(self) -> None:
        workers = [one for one in psutil.Process().children(recursive=True) if is_worker(one)]
        for one in workers if self.kill_all else workers[:1] and [self.random.choice(workers)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
                self.n_killed += 1

    def _on_rollout_end(self) -> None:
        if self.timer is not None:
            self.timer.join()
            self.timer = None
        buffer = self.model.replay_buffer  # type: ignore[attr-defined]
        self.digests.append(hashlib.sha256(buffer.stored_returns.tobytes()).hexdigest() + digest(self.model))


def is_worker(process: psutil.Process) -> bool:
    """Is it a worker of ours? It runs below this process."""
    try:
        command = " ".join(process.cmdline())
        is_forked = any("forkserver" in part for part in process.parent().cmdline()) if process.parent() else False
    except psutil.NoSuchProcess:
        return False
    return "ray::EpisodeWorker" in command or is_forked


def measure_kills(n_single: int, n_all: int, backends: list[str]) -> dict[str, Any]:
    """A training of n iterations in each of which workers are killed; each must bring what it brings undisturbed."""
    results: dict[str, Any] = {}
    step_s = 0.02  # an episode takes 0.4 s
    for kill_all, n_trials in ((False, n_single), (True, n_all)):
        n_steps = n_trials * ON_WORKERS["n_candidates"] * 20
        expected = Killer(0, kill_all, episode_s=0.4)
        learn(GoGePo, n_steps, expected)
        for backend in backends:
            killer = Killer(n_trials, kill_all, episode_s=0.4)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                start = time.perf_counter()
                model = learn(GoGePo, n_steps, killer, step_s, rollout_backend=backend, rollout_workers=2)
                seconds = time.perf_counter() - start
            n_equal = sum(one == two for one, two in zip(expected.digests, killer.digests, strict=True))
            results[f"{backend}: {'all workers' if kill_all else 'one worker'} killed"] = dict(
                n_trials=n_trials,
                n_equal=n_equal,
                n_processes_killed=killer.n_killed,
                n_losses_noticed=sum("worker is lost" in str(one.message) for one in caught),
                n_discarded_episodes=model._discarded_num,
                wall_s=round(seconds, 1),
            )
            print(list(results.items())[-1], flush=True)
    return results


# ---------------------------------------------------------------- orphans

#: Seconds after the driver's end when its workers, and when all processes below it, have to be gone; Ray's own agents take
#: about a minute to notice
WORKERS_END_S, ALL_END_S = 10, 100

DRIVER = """
import sys
from benchmarks.reliability.faults import learn, GoGePo
learn(GoGePo, 10**6, step_s=float(sys.argv[2]), rollout_backend=sys.argv[1], rollout_workers=2)
"""


def measure_orphans(n_trials: int, backends: list[str]) -> dict[str, Any]:
    """SIGKILL for a driver whose workers are in the midst of episodes: which processes below it are alive afterwards?"""
    results = {}
    for backend in backends:
        n_without_workers = n_clean = 0
        for trial in range(n_trials):
            step_s = ("0.02", "1000")[trial % 2]  # busy, or hanging
            driver = psutil.Popen([sys.executable, "-c", DRIVER, backend, step_s], cwd=ROOT, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 120
            while not any(is_worker(one) for one in driver.children(recursive=True)) and time.monotonic() < deadline:
                time.sleep(0.5)
            time.sleep(3)
            below = driver.children(recursive=True)
            workers = [one for one in below if is_worker(one)]
            if not workers:
                driver.kill()
                raise RuntimeError(f"the driver has no {backend} workers that could be left over")
            driver.kill()
            driver.wait()
            _, alive = psutil.wait_procs(workers, timeout=WORKERS_END_S)
            n_without_workers += not alive
            _, alive = psutil.wait_procs(below, timeout=ALL_END_S - WORKERS_END_S)
            n_clean += not alive
            for one in alive:
                print("orphan:", one, flush=True)
                one.kill()
        results[backend] = dict(n_trials=n_trials, n_without_workers=n_without_workers, n_without_orphans=n_clean)
        print("orphans", backend, results[backend], flush=True)
    return results


# ---------------------------------------------------------------- faulty envs


def train_gogepo(env_fn: Callable[[], FaultyEnv], seed: int, **kwargs: Any) -> th.Tensor:
    model = GoGePo("MlpPolicy", env_fn, **{**SMALL[GoGePo], **ON_WORKERS, "seed": seed, **kwargs}).learn(1000)
    return th.cat([part.flatten() for part in model.policy.parameters()])


def train_ars(env_fn: Callable[[], FaultyEnv], seed: int, vec_env: str) -> th.Tensor:
    classes = {"DummyVecEnv": DummyVecEnv, "SubprocVecEnv": SubprocVecEnv, "AsyncEval": DummyVecEnv}
    env = classes[vec_env]([env_fn] * 2)
    model = ARS("MlpPolicy", env, n_delta=4, policy_kwargs=dict(net_arch=[8]), seed=seed)
    asynchronous = AsyncEval([lambda: DummyVecEnv([env_fn])] * 2, model.policy) if vec_env == "AsyncEval" else None
    model.learn(1000, async_eval=asynchronous)
    return th.cat([part.flatten() for part in model.policy.parameters()])


TRAINERS: dict[str, Callable[..., th.Tensor]] = {
    "GoGePo, in-process": train_gogepo,
    "GoGePo, subprocess": partial(
        train_gogepo, rollout_backend="subprocess", rollout_workers=2, rollout_kwargs=dict(episode_timeout_s=2.0)
    ),
    "ARS, DummyVecEnv": partial(train_ars, vec_env="DummyVecEnv"),
    "ARS, SubprocVecEnv": partial(train_ars, vec_env="SubprocVecEnv"),
    "ARS, AsyncEval": partial(train_ars, vec_env="AsyncEval"),
}


def _train_in_child(send: Any, trainer: str, fault: str, seed: int) -> None:
    th.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115 - until the end of the process
    try:
        parameters = TRAINERS[trainer](partial(FaultyEnv, fault), seed)
        send.send("finished" if bool(th.isfinite(parameters).all()) else "parameters are nan")
    except Exception as error:
        send.send(type(error).__name__)


def train_once(trainer: str, fault: str, seed: int) -> str:
    """How a training of 50 episodes ends, a tenth of which are bad: ``"finished"`` or what went wrong."""
    context = mp.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_train_in_child, args=(send, trainer, fault, seed))
    child.start()
    send.close()
    deadline = time.monotonic() + HANG_LIMIT_S
    try:
        while not receive.poll(0.2):
            # neither the end of the pipe nor the sentinel would tell: the child's own children hold copies of both
            if not child.is_alive() and not receive.poll():
                return "the process died"
            if time.monotonic() > deadline:
                return "hangs"
        return receive.recv()
    except EOFError:
        return "the process died"
    finally:
        for one in psutil.Process(child.pid).children(recursive=True) if child.is_alive() else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        child.kill()
        child.join()


def measure_faults(trainer: str, n_trials: int) -> dict[str, Any]:
    """How many trainings, of envs that fail in each way, finish with finite parameters."""
    results: dict[str, Any] = {}
    for fault in FAULTS:
        ends = [train_once(trainer, fault, seed) for seed in range(n_trials)]
        others = sorted({end for end in ends if end != "finished"})
        results[fault] = dict(n_trials=n_trials, n_finished=ends.count("finished"), otherwise=others)
        print(trainer, fault, results[fault], flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=["equal", "kills", "orphans", "faults"])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the trials, for a quick look")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--backends", nargs="+", default=BACKENDS)
    arguments = parser.parse_args()
    backends: list[str] = list(arguments.backends)
    th.set_num_threads(1)
    warnings.simplefilter("ignore")
    count = lambda n: max(1, round(n * arguments.scale))  # noqa: E731
    path: Path = arguments.output
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results["versions"] = dict(
        sb3_gogepo=__version__, ray=ray.__version__, torch=th.__version__, python=platform.python_version()
    )
    if "faults" in arguments.only:  # first: it forks, which a process that is connected to Ray should not
        for trainer in TRAINERS:
            results.setdefault("faults", {})[trainer] = measure_faults(trainer, count(5))
            write(results, path)
    if "orphans" in arguments.only:
        results.setdefault("orphans", {}).update(measure_orphans(count(10), backends))
        write(results, path)
    if {"equal", "kills"} & set(arguments.only) and "ray" in backends:
        RayBackend(b"", PoolSettings(n_workers=4))  # one Ray for all trainings to come
    if "equal" in arguments.only:
        results["equal"] = measure_equality(backends)
        write(results, path)
    if "kills" in arguments.only:
        results.setdefault("kills", {}).update(measure_kills(count(50), count(20), backends))
    write(results, path)
    ray.shutdown()


def write(results: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
