"""Cells (track, algo, env, seed): where their files lie, and small atomic JSON and CSV files."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sb3_gogepo.saving.archive import write_atomically

ROOT = Path(__file__).resolve().parents[2]
#: small CSV and JSON files, committed
RESULTS = Path("benchmarks") / "results"
#: models, checkpoints and logs, ignored by git
WORK = Path("benchmarks") / "work"

#: resume points, in a cell's work folder
CHECKPOINTS = "checkpoint"
#: the trained model, and what it learned from, in a cell's work folder
MODEL, REPLAY_BUFFER = "model.zip", "replay_buffer"
#: how a process went on with a cell, in its manifest: as if there had been no interruption, or not quite
EXACT, INEXACT = "exact", "not bit-equal"

N_EVAL_EPISODES = 10
#: the k-th evaluation episode of every evaluation of every cell is reset with this + k
EVAL_SEED = 1_000_000

CURVE_COLUMNS = [
    "timesteps",
    "env_steps",
    "train_seconds",
    "train_cpu_seconds",
    "mean_length",
    *(f"return_{k}" for k in range(N_EVAL_EPISODES)),
]
N_TIME_COLUMNS = CURVE_COLUMNS.index("return_0")
ACTOR_COLUMNS = ["timesteps", *CURVE_COLUMNS[N_TIME_COLUMNS:]]
TRAINING_COLUMNS = ["timesteps", "n_episodes", "mean_return", "std_return", "min_return", "max_return", "mean_length"]


class Cell(NamedTuple):
    """One training run."""

    track: str
    algo: str
    env: str
    seed: int

    @property
    def path(self) -> Path:
        """Its folder, below :data:`RESULTS` and below :data:`WORK`."""
        return Path(self.track, self.algo, self.env, str(self.seed))

    def __str__(self) -> str:
        return f"{self.track}/{self.algo}/{self.env}/{self.seed}"


def remove_unfinished(work: Path) -> None:
    """Remove the resume points and RL Zoo's folder from a cell's work folder; the lock stays, as a process may hold it."""
    for name in (CHECKPOINTS, "zoo"):
        shutil.rmtree(work / name, ignore_errors=True)


def start_anew(results: Path, work: Path) -> None:
    """Remove what earlier processes have left of a cell: its results so far, and what they would go on from."""
    shutil.rmtree(results, ignore_errors=True)
    remove_unfinished(work)
    (work / "progress.json").unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Indented, with a final newline; complete or not at all."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode(), suffix="")


def read_json(path: Path) -> dict[str, Any]:
    """Its content; empty if there is no such file.

    :raises ValueError: naming the file, if it holds no JSON object.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} holds no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    """A CSV file with six significant digits, whole numbers as they are; complete or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows)
    write_atomically(path, text.getvalue().encode(), suffix="")


def read_rows(path: Path) -> list[list[float]]:
    """(n_rows, n_columns) numbers; whole ones as int. Empty if there is no such file."""
    if not path.exists():
        return []
    with path.open() as file:
        rows = list(csv.reader(file))[1:]
    return [[int(value) if value.lstrip("-").isdigit() else float(value) for value in row] for row in rows]
