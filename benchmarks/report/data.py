"""Reading what the cells have written: finished runs, grouped, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from benchmarks.run.layout import CURVE_COLUMNS, N_TIME_COLUMNS, Cell, read_json, read_rows

ENVS: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "report.yml").read_text())
#: entries of a manifest that the report reads
NEEDED = {"status", "n_timesteps", "timesteps", "sessions"}
NEEDED_WHEN_FINISHED = {"env_steps", "train_seconds", "train_cpu_seconds", "eval_seconds", "peak_memory_mb"}


class Run(NamedTuple):
    """A finished cell.

    :param axes: (n_evaluations,) arrays: ``timesteps``, ``train_seconds``, ``train_cpu_seconds``.
    :param returns: (n_evaluations,) mean return of the evaluation episodes.
    :param actor: (n_evaluations,) that of a state critic's actor; None without one.
    """

    cell: Cell
    manifest: dict[str, Any]
    axes: dict[str, np.ndarray]
    returns: np.ndarray
    actor: np.ndarray | None = None

    @property
    def final_return(self) -> float:
        """Mean of the evaluations in the last tenth of the env steps."""
        return self.return_near(self.manifest["n_timesteps"])

    def return_near(self, n_timesteps: int) -> float:
        """Mean of the evaluations between 90 % of ``n_timesteps`` and there, or the last one before.

        :raises ValueError: if there is none at all.
        """
        timesteps = self.axes["timesteps"]
        in_time = timesteps[timesteps <= n_timesteps]
        if not len(in_time):
            raise ValueError(f"{self.cell} has no evaluation within {n_timesteps:,} env steps")
        start = min(0.9 * n_timesteps, in_time[-1] - 1)
        return float(self.returns[(timesteps > start) & (timesteps <= n_timesteps)].mean())

    def settings(self, names: set[str]) -> tuple[int, str, tuple[float, ...]]:
        """What all runs of a group have in common: env steps, hyperparameters, and when they were evaluated.

        :param names: of the hyperparameters; those that the run was not given had the default of its time.
        """
        used = {**self.manifest.get("defaults", {}), **self.manifest.get("hyperparams", {})}
        hyperparams = json.dumps({name: used.get(name) for name in names}, sort_keys=True)
        return self.manifest["n_timesteps"], hyperparams, tuple(self.axes["timesteps"])

    @property
    def machine(self) -> str:
        """The processors it ran on, and the threads. Times compare within one kind."""
        used = [session["hardware"] for session in self.manifest["sessions"]]
        names = {
            f"{made_of['cpu'] if made_of['device'] == 'cpu' else made_of['gpu']}, {made_of['threads']} thread(s)"
            for made_of in used
        }
        return " and ".join(sorted(names))

    def reaches(self, threshold: float) -> int | None:
        """Index of the first evaluation whose mean return is at least ``threshold``."""
        indices = np.flatnonzero(self.returns >= threshold)
        return int(indices[0]) if len(indices) else None


class Group(NamedTuple):
    """The runs of one algorithm on one env, of equal settings, by seed; and what the statistics leave out, in words."""

    runs: list[Run]
    left_out: list[str]

    @property
    def n_timesteps(self) -> int:
        """Env steps of each run."""
        return int(self.runs[0].manifest["n_timesteps"])


#: env -> label -> group
Groups = dict[str, dict[str, Group]]


def actors_of(groups: Groups, label: str) -> dict[str, Group]:
    """env -> the runs of a label's actors, for those whose curves were kept."""
    found = {}
    for env, by_label in groups.items():
        runs = by_label[label].runs if label in by_label else []
        actors = [run._replace(returns=run.actor) for run in runs if run.actor is not None]
        if runs and len(actors) == len(runs):
            found[env] = Group(actors, [])
    return found


def read_cells(results: Path) -> list[tuple[Cell, dict[str, Any]]]:
    """All cells that have a manifest, with it; by track, algo, env and seed.

    :raises ValueError: for a folder or manifest that the runner does not write.
    """
    found = []
    for path in results.glob("*/*/*/*/manifest.json"):
        track, algo, env, seed = path.parent.relative_to(results).parts
        if not seed.isdigit():
            raise ValueError(f"the folder of a cell must be named by its seed, got {path.parent}")
        manifest = read_json(path)
        needed = NEEDED | (NEEDED_WHEN_FINISHED if manifest.get("status") == "finished" else set())
        if missing := needed - set(manifest):
            raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
        found.append((Cell(track, algo, env, int(seed)), manifest))
    return sorted(found, key=lambda pair: pair[0])


def read_run(results: Path, cell: Cell, manifest: dict[str, Any]) -> Run:
    """The run of a finished cell.

    :raises ValueError: if it has no curve.
    """
    curve = read_rows(results / cell.path / "curve.csv")
    if not curve:
        path = results / cell.path / "manifest.json"
        raise ValueError(f"{path} says that the cell is finished, but there is no evaluation in its curve.csv")
    rows = np.array(curve, dtype=float).reshape(-1, len(CURVE_COLUMNS))
    axes = {name: rows[:, CURVE_COLUMNS.index(name)] for name in ("timesteps", "train_seconds", "train_cpu_seconds")}
    actor = np.array(read_rows(results / cell.path / "actor.csv"), dtype=float)
    return Run(cell, manifest, axes, rows[:, N_TIME_COLUMNS:].mean(axis=1), actor[:, 1:].mean(axis=1) if len(actor) else None)


def read_groups(results: Path, track: str) -> Groups:
    """Everything on this track; envs in the order of ``report.yml``. Groups of which no cell has finished are empty.

    Where runs differ in settings, those of most of them count, of equally many the longer ones.
    """
    collected: dict[tuple[str, str], list[tuple[Cell, dict[str, Any]]]] = {}
    for cell, manifest in read_cells(results):
        if cell.track == track:
            collected.setdefault((cell.env, cell.algo), []).append((cell, manifest))
    groups: Groups = {}
    for env, algo in sorted(collected, key=lambda key: (_place(key[0]), key)):
        finished = [read_run(results, cell, known) for cell, known in collected[env, algo] if known["status"] == "finished"]
        given = {name for run in finished for name in run.manifest.get("hyperparams", {})}
        settings = [run.settings(given) for run in finished]
        usual = max(settings, key=lambda value: (settings.count(value), value), default=None)
        runs = [run for run, value in zip(finished, settings, strict=True) if value == usual]
        used = [run.cell for run in runs]
        left_out = []
        for cell, known in collected[env, algo]:
            if cell not in used:
                text = f"seed {cell.seed} {known['status']}, {known['timesteps']:,} of {known['n_timesteps']:,} steps"
                same_length = usual is not None and known["status"] == "finished" and known["n_timesteps"] == usual[0]
                left_out.append(text + (", with other hyperparameters or evaluations" if same_length else ""))
        groups.setdefault(env, {})[algo] = Group(runs, left_out)
    return groups


def with_runs(groups: Groups) -> Groups:
    """Without empty groups, and envs that have no others."""
    kept = {env: {label: group for label, group in by_label.items() if group.runs} for env, by_label in groups.items()}
    return {env: by_label for env, by_label in kept.items() if by_label}


def on_one_machine(groups: Groups) -> Groups:
    """Of each env the runs on the kind of machine that most algorithms ran on, then most runs: their times compare."""
    timed: Groups = {}
    for env, by_label in groups.items():
        used = [(run.machine, label) for label, group in by_label.items() for run in group.runs]
        machines, of_labels = [machine for machine, _ in used], [machine for machine, _ in set(used)]
        usual = max(machines, key=lambda machine: (of_labels.count(machine), machines.count(machine), machine))
        timed[env] = {
            label: group._replace(runs=[run for run in group.runs if run.machine == usual])
            for label, group in by_label.items()
        }
    return with_runs(timed)


def _place(env: str) -> int:
    return list(ENVS).index(env) if env in ENVS else len(ENVS)
