"""The tables of docs/faulty_envs.md and docs/ray.md, printed: ``python -m benchmarks.reliability.fault_tables``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.report.tables import table

RESULTS = Path(__file__).parents[1] / "results"


def _read(measurement: str) -> dict[str, Any]:
    return json.loads((RESULTS / "reliability" / "faults.json").read_text(encoding="utf-8"))[measurement]


def equality_table() -> str:
    """Trainings on several envs or workers: how many end bit-equal to the one in one process."""
    rows = [[name, f"{sum(equal.values())} of {len(equal)}"] for name, equal in _read("equal").items()]
    return table(["Algorithm", "Equal results"], rows)


def kills_table() -> str:
    """Iterations whose workers were killed: how many brought what they bring undisturbed."""
    rows = [
        [name, f"{one['n_equal']} of {one['n_trials']}", one["n_processes_killed"], one["n_discarded_episodes"]]
        for name, one in _read("kills").items()
    ]
    return table(["In each iteration", "Equal results", "Processes killed", "Episodes lost"], rows)


def orphans_table() -> str:
    """Drivers killed by SIGKILL: after how many of them no worker, and no process at all, was left below them."""
    rows = [
        [name, *(f"{one[key]} of {one['n_trials']}" for key in ("n_without_workers", "n_without_orphans"))]
        for name, one in _read("orphans").items()
    ]
    return table(["Backend", "No worker left after 10 s", "No process left after 100 s"], rows)


def faults_table() -> str:
    """Trainings in envs that fail in each way: how many finish with finite parameters, and how the others end."""
    results = _read("faults")
    rows = [[trainer, *(_ends(one) for one in faults.values())] for trainer, faults in results.items()]
    return table(["Finished", *next(iter(results.values()))], rows)


def _ends(result: dict[str, Any]) -> str:
    return ": ".join([f"{result['n_finished']} of {result['n_trials']}", *result["otherwise"]])


def throughput_table() -> str:
    """Episodes a second by backend, number of workers and length of the episode."""
    rows = json.loads((RESULTS / "rollout_backends.json").read_text(encoding="utf-8"))["rows"]
    lengths = list(rows[0]["episodes_per_second"])
    lines = [
        [f"{row['backend']}, {row['n_workers']}", *(f"{row['episodes_per_second'][ms]:.1f}" for ms in lengths), row["load"]]
        for row in rows
    ]
    return table(["Backend, workers", *(f"{ms} ms" for ms in lengths), "Load of the machine"], lines)


if __name__ == "__main__":
    print(equality_table(), kills_table(), orphans_table(), faults_table(), throughput_table(), sep="\n")
