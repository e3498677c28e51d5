"""How many runs and files survive: kills, full disks, hostile files; sb3-contrib's ARS beside this package's algorithms.

``python -m benchmarks.reliability resume sigterm saves disk hostile`` writes one JSON file a measurement into
``benchmarks/results/reliability``; ``python -m benchmarks.reliability table`` prints the table of ``docs/reliability.md``.
Needs POSIX: processes are forked from this one, which has imported everything and run nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stable_baselines3
import torch as th

import sb3_gogepo
from benchmarks.reliability.disk import measure_disk
from benchmarks.reliability.hostile import measure_hostile
from benchmarks.reliability.runs import ALGORITHMS, LEARNING, SAVE_FREQ, SEED, TOTAL_STEPS, run_to_the_end
from benchmarks.reliability.saves import measure_saves

RESULTS = Path(__file__).parents[1] / "results" / "reliability"
NEVER = 10**9  # env steps


def start(function: Callable[..., None], *arguments: Any) -> int:
    """Run a function in a forked process; its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        function(*arguments)
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(status)


def wait(pid: int) -> int:
    """The exit status of a process, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_until_it_learns(pid: int, folder: Path) -> None:
    """Return when the process has called ``learn``.

    :raises RuntimeError: if it ends before.
    """
    while not (folder / LEARNING).exists():
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            raise RuntimeError("the run ended before it learned")
        time.sleep(0.005)


def kill_once(
    algorithm: str, n_envs: int, number: int, after: float, save_freq: int, total_steps: int, reference: str
) -> tuple[bool, str]:
    """Signal a run some seconds after ``learn`` began, start it again, compare how it ends; (was it killed?, outcome)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pid = start(run_to_the_end, algorithm, n_envs, folder, save_freq, total_steps)
        wait_until_it_learns(pid, folder)
        time.sleep(after)
        os.kill(pid, number)
        if wait(pid) != -number:
            return False, "it had ended before"
        if number == signal.SIGTERM and not any(folder.glob("checkpoint_*")):
            return True, "no checkpoint"
        if wait(start(run_to_the_end, algorithm, n_envs, folder, save_freq, total_steps)) != 0:
            return True, "could not go on"
        ended = (folder / "fingerprint.txt").read_text()
        different = [
            one.split(":")[0] for one, two in zip(ended.split("\n"), reference.split("\n"), strict=True) if one != two
        ]
        return True, f"different {', '.join(different)}" if different else "equal"


def measure_kills(
    algorithm: str, number: int, n: int, seed: int, save_freq: int = SAVE_FREQ, total_steps: int = TOTAL_STEPS
) -> dict[str, Any]:
    """Kill ``n`` runs at random times, half of them with 4 envs under VecNormalize.

    :param number: the signal; SIGTERM: nothing else makes a checkpoint.
    """
    rng = random.Random(f"{algorithm} {number} {seed}")
    references, durations = {}, {}
    save_freq = NEVER if number == signal.SIGTERM else save_freq
    for n_envs in (1, 4):
        with tempfile.TemporaryDirectory() as name:
            pid = start(run_to_the_end, algorithm, n_envs, Path(name), save_freq, total_steps)
            wait_until_it_learns(pid, Path(name))
            began = time.monotonic()
            if wait(pid) != 0:
                raise RuntimeError(f"{algorithm} with {n_envs} envs fails without being killed")
            durations[n_envs] = time.monotonic() - began
            references[n_envs] = (Path(name) / "fingerprint.txt").read_text()
    kills: list[dict[str, Any]] = []
    while len(kills) < n:
        n_envs = (1, 4)[len(kills) % 2]
        after = rng.uniform(0, 0.95 * durations[n_envs])
        killed, outcome = kill_once(algorithm, n_envs, number, after, save_freq, total_steps, references[n_envs])
        if killed:
            kills.append({"n_envs": n_envs, "after_s": round(after, 2), "outcome": outcome})
            print(f"{algorithm}: {kills[-1]}", flush=True)
    return {"survived": sum(kill["outcome"] == "equal" for kill in kills), "n": n, "kills": kills}


def measure_resume(algorithm: str, n: int, seed: int) -> dict[str, Any]:
    return measure_kills(algorithm, signal.SIGKILL, n, seed)


def measure_sigterm(algorithm: str, n: int, seed: int) -> dict[str, Any]:
    return measure_kills(algorithm, signal.SIGTERM, n, seed)


#: measurement -> function, default number of trials, algorithms (None: all), what the docs say of it
MEASUREMENTS: dict[str, tuple[Callable[[str, int, int], dict[str, Any]], int, tuple[str, ...] | None, str]] = {
    "resume": (measure_resume, 20, None, "SIGKILL at a random time, then resumed: ends bit-equal"),
    "sigterm": (measure_sigterm, 10, ("GoGePo", "UDRLPG", "UDRL"), "SIGTERM at a random time, then resumed: ends bit-equal"),
    "saves": (measure_saves, 200, ("GoGePo", "ARS"), "SIGKILL while it saves all the time: the files can be loaded"),
    "disk": (
        measure_disk,
        0,
        ("GoGePo", "ARS"),
        "full disk, read-only folder: failures raise, a whole file stays",
    ),
    "hostile": (measure_hostile, 10_000, ("GoGePo", "ARS"), "hostile files: refused with the documented error, or harmless"),
}


def render_table(results: Path = RESULTS) -> str:
    """The table of the docs, from the JSON files."""
    names = list(ALGORITHMS)
    lines = ["| " + " | ".join(["survived", *names]) + " |", "|---" * (len(names) + 1) + "|"]
    for measurement, (_, _, _, text) in MEASUREMENTS.items():
        path = results / f"{measurement}.json"
        if not path.exists():
            continue  # not measured yet
        rows = json.loads(path.read_text())["results"]
        cells = [f"{rows[name]['survived']} of {rows[name]['n']}" if name in rows else "" for name in names]
        lines.append("| " + " | ".join([text, *cells]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurements", nargs="+", choices=[*MEASUREMENTS, "table"])
    parser.add_argument("--n", type=int, help="trials; the default is what the docs show")
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    th.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for measurement in arguments.measurements:
        if measurement == "table":
            print(render_table(arguments.folder))
            continue
        function, n, algorithms, _ = MEASUREMENTS[measurement]
        path = arguments.folder / f"{measurement}.json"
        results = json.loads(path.read_text())["results"] if path.exists() else {}
        for algorithm in arguments.algorithms or algorithms or ALGORITHMS:
            results[algorithm] = function(algorithm, arguments.n or n, arguments.seed)
            print(f"{measurement}, {algorithm}: {results[algorithm]['survived']} of {results[algorithm]['n']}", flush=True)
            versions = {
                "python": platform.python_version(),
                "sb3_gogepo": sb3_gogepo.__version__,
                "stable_baselines3": stable_baselines3.__version__,
                "torch": th.__version__,
            }
            path.write_text(json.dumps({"seed": arguments.seed, "versions": versions, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
