"""Reading what the cells have written: finished runs, grouped, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from benchmarks.layout import CURVE_COLUMNS, Cell, read_json, read_rows

ENVS: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "report.yml").read_text())
N_TIME_COLUMNS = CURVE_COLUMNS.index("return_0")


class Run(NamedTuple):
    """A finished cell.

    :param axes: (n_evaluations,) arrays: ``timesteps``, ``train_seconds``, ``train_cpu_seconds``.
    :param returns: (n_evaluations,) mean return of the evaluation episodes.
    """

    cell: Cell
    manifest: dict[str, Any]
    axes: dict[str, np.ndarray]
    returns: np.ndarray

    @property
    def final_return(self) -> float:
        """Mean of the evaluations in the last tenth of the env steps."""
        return self.return_near(self.manifest["n_timesteps"])

    def return_near(self, n_timesteps: int) -> float:
        """Mean of the evaluations between 90 % of ``n_timesteps`` and there."""
        timesteps = self.axes["timesteps"]
        return float(self.returns[(timesteps > 0.9 * n_timesteps) & (timesteps <= n_timesteps)].mean())

    def reaches(self, threshold: float) -> int | None:
        """Index of the first evaluation whose mean return is at least ``threshold``."""
        indices = np.flatnonzero(self.returns >= threshold)
        return int(indices[0]) if len(indices) else None


class Group(NamedTuple):
    """The runs of one algorithm on one env, of equal length, by seed; and what the statistics leave out, in words."""

    runs: list[Run]
    left_out: list[str]

    @property
    def n_timesteps(self) -> int:
        """Env steps of each run."""
        return int(self.runs[0].manifest["n_timesteps"])


def read_cells(results: Path) -> list[tuple[Cell, dict[str, Any]]]:
    """All cells that have a manifest, with it; by track, algo, env and seed."""
    found = []
    for path in results.glob("*/*/*/*/manifest.json"):
        track, algo, env, seed = path.parent.relative_to(results).parts
        found.append((Cell(track, algo, env, int(seed)), read_json(path)))
    return sorted(found, key=lambda pair: pair[0])


def read_run(results: Path, cell: Cell, manifest: dict[str, Any]) -> Run:
    """The run of a finished cell."""
    rows = np.array(read_rows(results / cell.path / "curve.csv"), dtype=float).reshape(-1, len(CURVE_COLUMNS))
    axes = {name: rows[:, CURVE_COLUMNS.index(name)] for name in ("timesteps", "train_seconds", "train_cpu_seconds")}
    return Run(cell, manifest, axes, rows[:, N_TIME_COLUMNS:].mean(axis=1))


def read_groups(results: Path, track: str) -> dict[str, dict[str, Group]]:
    """env -> label -> group, of everything on this track that has a finished cell; envs in the order of ``report.yml``.

    Where runs differ in length, the length of most of them counts, of equally many the longer one.
    """
    collected: dict[tuple[str, str], list[tuple[Cell, dict[str, Any]]]] = {}
    for cell, manifest in read_cells(results):
        if cell.track == track:
            collected.setdefault((cell.env, cell.algo), []).append((cell, manifest))
    groups: dict[str, dict[str, Group]] = {}
    for env, algo in sorted(collected, key=lambda key: (_place(key[0]), key)):
        finished = [(cell, known) for cell, known in collected[env, algo] if known["status"] == "finished"]
        lengths = [known["n_timesteps"] for _, known in finished]
        if not lengths:
            continue
        n_timesteps = max(lengths, key=lambda length: (lengths.count(length), length))
        runs = [read_run(results, cell, known) for cell, known in finished if known["n_timesteps"] == n_timesteps]
        others = [
            f"seed {cell.seed} {known['status']}, {known['timesteps']:,} of {known['n_timesteps']:,} steps"
            for cell, known in collected[env, algo]
            if known["status"] != "finished" or known["n_timesteps"] != n_timesteps
        ]
        groups.setdefault(env, {})[algo] = Group(runs, others)
    return groups


def _place(env: str) -> int:
    return list(ENVS).index(env) if env in ENVS else len(ENVS)
