"""The docs' tables of single algorithms' learning curves, from the CSV files in ``benchmarks/results/learning_curves``.

``python -m benchmarks.studies.learning_curves`` writes a table of all there is for each algorithm. The files come from an
earlier version, whose command is in their first line; new runs are cells of ``python -m benchmarks.run``. In a row,
``train_return`` is the mean of the last 100 training episodes, and ``eval_return`` that of SB3's ``evaluate_policy``, of 10
episodes, in the last row 20.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from benchmarks.report import tables

ALGORITHMS = ("gogepo", "udrl", "udrlpg")
RESULTS = Path(__file__).parents[1] / "results" / "learning_curves"
TABLES = Path(__file__).parents[2] / "docs" / "learning_curves"


def final_returns(algo: str) -> dict[tuple[str, int, str], dict[int, float]]:
    """(env, env steps asked for, settings) -> seed -> mean return of the last evaluation."""
    found: dict[tuple[str, int, str], dict[int, float]] = {}
    for path in sorted(RESULTS.glob(f"{algo}_*.csv")):
        _, env_id, steps, seed, *_ = path.name.removesuffix(".csv").split("_")
        command, _, *lines = path.read_text().splitlines()
        _, _, settings = command.partition(" --set ")
        returns = found.setdefault((env_id, int(steps), settings), {})
        returns[int(seed.removeprefix("seed"))] = float(list(csv.DictReader(lines))[-1]["eval_return"])
    return found


def table(algo: str) -> str:
    """One row for each env, number of steps and settings, in Markdown."""
    from rliable import metrics

    rows = []
    for (env_id, steps, settings), by_seed in sorted(final_returns(algo).items()):
        returns = np.array([by_seed[seed] for seed in sorted(by_seed)])
        listed = ", ".join(f"{by_seed[seed]:.0f} ({seed})" for seed in sorted(by_seed))
        middle = [f"{np.median(returns):.1f}", f"{metrics.aggregate_iqm(returns[:, None]):.1f}"]
        settings = f"`{settings}`" if settings else "default"
        rows.append([env_id, f"{steps:,}", settings, listed, *(middle if len(returns) > 1 else ["", ""])])
    return tables.table(["Env", "Env steps", "Settings", "Returns by seed", "Median", "IQM"], rows)


def main() -> None:
    """Write ``docs/learning_curves/<algo>.md`` for each algorithm."""
    for algo in ALGORITHMS:
        (TABLES / f"{algo}.md").write_text(table(algo), encoding="utf-8")


if __name__ == "__main__":
    main()
