"""The report's tables, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.data import ENVS, Group
from benchmarks.statistics import Aggregate, estimate_mean

Groups = dict[str, dict[str, Group]]


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]) + "\n"


def number(value: float) -> str:
    """Four significant digits at most, no exponent, one decimal at most from 10 on."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return "0" if float(text.replace(",", "")) == 0 else text


def interval(mean: float, low: float, high: float) -> str:
    """``mean [low, high]``; without an interval, the mean alone."""
    return number(mean) if np.isnan(low) else f"{number(mean)} [{number(low)}, {number(high)}]"


def steps(n: float) -> str:
    """100k, 1M, 1.5M."""
    return f"{n / 1e6:g}M" if n >= 1e6 else f"{n / 1e3:g}k"


def final_returns(groups: Groups, labels: list[str]) -> str:
    """Return at the end of the training: rows are algorithms, one column an env. Every entry says its seeds and steps."""
    rows = []
    for label in labels:
        entries = []
        for env in groups:
            group = groups[env].get(label)
            if group is None:
                entries.append("not run")
                continue
            estimate = estimate_mean(np.array([run.final_return for run in group.runs]))
            seeds = f"{len(group.runs)} seed{'s' if len(group.runs) > 1 else ''}"
            entries.append(f"{interval(*map(float, estimate))}<br>{seeds}, {steps(group.n_timesteps)} steps")
        rows.append([f"`{label}`", *entries])
    return table(["", *groups], rows)


def times_to_return(groups: Groups, labels: list[str]) -> str:
    """Median over all seeds of env steps, wall clock and CPU time until an evaluation reaches a return."""
    rows = []
    for env in groups:
        for threshold in ENVS.get(env, {}).get("thresholds", []):
            for label in labels:
                if label not in groups[env]:
                    continue
                group = groups[env][label]
                found = [(run, run.reaches(threshold)) for run in group.runs]
                n_reached = sum(index is not None for _, index in found)
                entries = []
                for axis, write in (("timesteps", steps), ("train_seconds", _minutes), ("train_cpu_seconds", _minutes)):
                    values = [np.inf if index is None else run.axes[axis][index] for run, index in found]
                    # of an even number the upper one of the two in the middle: no mean with what was never reached
                    median = float(np.sort(values)[len(values) // 2])
                    entries.append(write(median) if np.isfinite(median) else f"not within {steps(group.n_timesteps)}")
                if not n_reached:
                    entries = [entries[0], "", ""]
                rows.append([env, f"{threshold:g}", f"`{label}`", f"{n_reached} of {len(found)}", *entries])
    return table(["env", "return", "", "seeds that reach it", "env steps", "wall clock, min", "CPU time, min"], rows)


def _minutes(seconds: float) -> str:
    return number(seconds / 60)


def iqm(result: Aggregate) -> str:
    """IQM of scaled returns, best first."""
    order = sorted(result.iqm, key=lambda label: -result.iqm[label][0])
    rows = [[f"`{label}`", interval(*result.iqm[label]), str(result.n_seeds[label])] for label in order]
    return table(["", "IQM", "seeds an env"], rows)


def costs(groups: Groups, labels: list[str]) -> str:
    """What a run costs: medians over seeds."""
    rows = []
    for env in groups:
        for label in labels:
            if label not in groups[env]:
                continue
            manifests = [run.manifest for run in groups[env][label].runs]

            def median(name: str, manifests: list[dict] = manifests) -> float:
                return float(np.median([known[name] for known in manifests]))

            per_second = float(np.median([known["env_steps"] / known["train_cpu_seconds"] for known in manifests]))
            rows.append(
                [
                    env,
                    f"`{label}`",
                    f"{median('env_steps'):,.0f}",
                    _minutes(median("train_seconds")),
                    _minutes(median("train_cpu_seconds")),
                    f"{per_second:,.0f}",
                    _minutes(median("eval_seconds")),
                    f"{median('peak_memory_mb'):,.0f}",
                ]
            )
    header = ["env", "", "env steps made", "training, min", "CPU time of it, min"]
    return table([*header, "env steps a CPU second", "evaluation, min", "peak memory, MiB"], rows)


def left_out(groups: Groups) -> str:
    """Cells that the statistics do not use, if there are any."""
    lines = [
        f"- {env}, `{label}`: {'; '.join(group.left_out)}"
        for env, by_label in groups.items()
        for label, group in by_label.items()
        if group.left_out
    ]
    return "\n".join(lines) + "\n" if lines else ""


def provenance(groups: Groups) -> str:
    """Commits, versions and machines behind the numbers."""
    manifests = [run.manifest for by_label in groups.values() for group in by_label.values() for run in group.runs]
    sessions = [session for known in manifests for session in known["sessions"]]
    machines: dict[str, list[float]] = {}
    for session in sessions:
        made_of = session["hardware"]
        on = made_of["gpu"] if made_of["device"] != "cpu" else f"{made_of['cores']} cores"
        text = f"{made_of['cpu']}, {on}, {made_of['threads']} thread(s) a cell"
        machines.setdefault(text, []).append(made_of["load_average"])
    versions = sorted(
        {", ".join(f"{name} {version}" for name, version in session["versions"].items()) for session in sessions}
    )
    commits = sorted(
        {session["commit"][:12] + ("+dirty" if session["commit"].endswith("+dirty") else "") for session in sessions}
    )
    lines = [f"- {len(manifests)} cells. Commits: {', '.join(f'`{commit}`' for commit in commits)}."]
    for machine, loads in sorted(machines.items()):
        lines.append(f"- {machine}; load average at the start of a cell {min(loads):g} to {max(loads):g}.")
    lines += [f"- {text}." for text in versions]
    resumed = sum(len(known["sessions"]) > 1 for known in manifests)
    if resumed:
        lines.append(f"- cells that were interrupted and continued from their last resume point: {resumed}.")
    return "\n".join(lines) + "\n"
