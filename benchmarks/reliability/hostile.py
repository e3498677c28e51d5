"""Thousands of hostile model files: what is run, what crashes, hangs or takes too much memory, and which errors come."""

from __future__ import annotations

import json
import os
import resource
import signal
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed

from benchmarks.reliability.hostile_files import hostile_files
from benchmarks.reliability.runs import ALGORITHMS, ARGUMENTS, make_env
from sb3_gogepo import InvalidFileError

BATCH = 250
MAX_CPU_S = 5
#: resident memory that loading a file of at most some megabytes may take
MAX_MEMORY = 300 * 2**20
ADDRESS_SPACE = 4 * 2**30  # so that a file that asks for more harms nobody


class TooSlow(BaseException):
    """Loading a file took more than MAX_CPU_S seconds of processor time."""


def _stop(number: int, frame: Any) -> None:
    raise TooSlow


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def load_and_act(algorithm: str, path: Path) -> str:
    """Load a file and act once: the outcome in a word."""
    cls: Any = ALGORITHMS[algorithm]
    signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, MAX_CPU_S)
    try:
        model = cls.load(path, device="cpu")
        action, _ = model.predict(np.zeros(3, np.float32), deterministic=True)
        return "loaded" if np.isfinite(action).all() else "acts with NaN"
    except TooSlow:
        return "too slow"
    except InvalidFileError:
        return "InvalidFileError"
    except Exception as error:
        return type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def run_batch(algorithm: str, original: bytes, n: int, seed: int, folder: Path) -> None:
    """Try ``n`` files and append each outcome to ``folder/outcomes``; in a process of its own."""
    warnings.simplefilter("ignore")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE,) * 2)
    canary, path = folder / "canary", folder / "model.zip"
    base = [_peak_memory()]

    @hypothesis_seed(seed)
    @settings(max_examples=n, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(content=hostile_files(original, canary))
    def try_one(content: bytes) -> None:
        path.write_bytes(content)
        canary.unlink(missing_ok=True)
        base[0] = max(base[0], _peak_memory())  # making the file may have taken a lot, too
        outcome = load_and_act(algorithm, path)
        if canary.exists():
            outcome = "ran the file's code"
        elif _peak_memory() - base[0] > MAX_MEMORY:
            outcome = "too much memory"
        if outcome not in ("loaded", "InvalidFileError") and algorithm != "ARS":
            (folder / f"bad_{seed}_{outcome.replace(' ', '_')}.zip").write_bytes(content)
        with open(folder / "outcomes", "a") as file:
            file.write(json.dumps(outcome) + "\n")

    try_one()


def is_harmless(algorithm: str, outcome: str) -> bool:
    """Loaded, or refused: with the documented error, or, as ARS documents none, with any."""
    harmful = ("ran the file's code", "too slow", "too much memory", "crash", "acts with NaN")
    return outcome not in harmful and (algorithm == "ARS" or outcome in ("loaded", "InvalidFileError"))


def measure_hostile(algorithm: str, n: int, seed: int, keep: Path | None = None) -> dict[str, Any]:
    """``n`` files made from one model's.

    :param keep: where files that do harm are kept.
    """
    model = ALGORITHMS[algorithm]("MlpPolicy", make_env(1), **ARGUMENTS[algorithm])
    outcomes: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder / "original")
        original = (folder / "original.zip").read_bytes()
        batch = 0
        while len(outcomes) < n:
            pid = os.fork()
            if not pid:
                try:
                    run_batch(algorithm, original, min(BATCH, n - len(outcomes)), seed + 1000 * batch, folder)
                finally:
                    os._exit(0)
            status = os.waitpid(pid, 0)[1]
            written = (folder / "outcomes").read_text().splitlines() if (folder / "outcomes").exists() else []
            outcomes += [json.loads(line) for line in written]
            (folder / "outcomes").unlink(missing_ok=True)
            if os.WIFSIGNALED(status):
                outcomes.append("crash")
            batch += 1
            if not written and not os.WIFSIGNALED(status):
                raise RuntimeError("no file was tried")
        for bad in folder.glob("bad_*"):
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / bad.name).write_bytes(bad.read_bytes())
    outcomes = outcomes[:n]
    counts = dict(Counter(outcomes).most_common())
    return {"survived": sum(is_harmless(algorithm, outcome) for outcome in outcomes), "n": n, "outcomes": counts}
