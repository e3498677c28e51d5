"""The report's tables, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.report.data import ENVS, Group, Groups, Run, on_one_machine
from benchmarks.report.statistics import MIN_SEEDS, Aggregate, estimate_mean
from benchmarks.run.layout import INEXACT

TIMES = ("train_seconds", "train_cpu_seconds")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]) + "\n"


def number(value: float) -> str:
    """Four significant digits at most, no exponent, one decimal at most from 10 on."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return "0" if float(text.replace(",", "")) == 0 else text


def interval(mean: float, low: float, high: float, n_seeds: int) -> str:
    """``mean [low, high]``, of few seeds ``mean (low to high)``; without low and high, the mean alone."""
    if np.isnan(low):
        return number(mean)
    if n_seeds < MIN_SEEDS:
        return f"{number(mean)} ({number(low)} to {number(high)})"
    return f"{number(mean)} [{number(low)}, {number(high)}]"


def steps(n: float) -> str:
    """100k, 1M, 1.5M."""
    return f"{n / 1e6:g}M" if n >= 1e6 else f"{n / 1e3:g}k"


def seeds_and_steps(n_seeds: int, n_timesteps: float) -> str:
    """5 seeds, 1M."""
    return f"{n_seeds} seed{'s' if n_seeds > 1 else ''}, {steps(n_timesteps)}"


def final_return(group: Group) -> str:
    """Return at the end of the training of a group's runs, with their number and env steps."""
    n_seeds = len(group.runs)
    mean, low, high = map(float, estimate_mean(np.array([run.final_return for run in group.runs])))
    shown = interval(mean, low, high, n_seeds)
    return f"{shown}<br>{seeds_and_steps(n_seeds, group.n_timesteps)} steps"


def final_returns(groups: Groups, labels: list[str]) -> str:
    """Return at the end of the training: rows are algorithms, one column an env. Every entry says its seeds and steps."""
    rows = []
    for label in labels:
        entries = []
        for env in groups:
            group = groups[env].get(label)
            if group is None or not group.runs:
                entries.append("not run" if group is None else "none finished")
                continue
            entries.append(final_return(group))
        rows.append([f"`{label}`", *entries])
    return table(["", *groups], rows)


def times_to_return(groups: Groups, labels: list[str]) -> str:
    """Median over all seeds of env steps, and over those on one machine of wall clock and CPU time, until an evaluation
    reaches a return. Those need not be the same: the table says how many were timed."""
    rows: list[list[str]] = []
    timed = on_one_machine(groups)
    header = ["env", "return", "", "seeds that reach it", "env steps", "seeds timed", "wall clock, min", "CPU time, min"]
    for env in groups:
        for threshold in ENVS.get(env, {}).get("thresholds", []):
            for label in labels:
                if label not in groups[env]:
                    continue
                group = groups[env][label]
                timed_runs = timed[env][label].runs if label in timed[env] else []
                n_reached = sum(run.reaches(threshold) is not None for run in group.runs)
                entries = [_median_time(group.runs, threshold, "timesteps", steps)]
                if n_reached:
                    entries.append(f"{len(timed_runs)} of {len(group.runs)}")
                    entries += [_median_time(timed_runs, threshold, axis, _minutes) for axis in TIMES]
                rows.append([env, f"{threshold:g}", f"`{label}`", f"{n_reached} of {len(group.runs)}", *entries])
                rows[-1] += [""] * (len(header) - len(rows[-1]))
    return table(header, rows)


def _median_time(runs: list[Run], threshold: float, axis: str, write: Callable[[float], str]) -> str:
    if not runs:
        return "other machine"
    reached = [(run, run.reaches(threshold)) for run in runs]
    values = [np.inf if index is None else run.axes[axis][index] for run, index in reached]
    # of an even number the upper one of the two in the middle: no mean with what was never reached
    median = float(np.sort(values)[len(values) // 2])
    return write(median) if np.isfinite(median) else f"not within {steps(runs[0].manifest['n_timesteps'])}"


def _minutes(seconds: float) -> str:
    return number(seconds / 60)


def several_envs(result: Aggregate) -> str:
    """IQM and mean of scaled returns, best IQM first."""
    rows = []
    for label in sorted(result.iqm, key=lambda label: -result.iqm[label][0]):
        n_seeds = result.n_seeds[label]
        estimates = [interval(*values[label], n_seeds=MIN_SEEDS) for values in (result.iqm, result.mean)]
        rows.append([f"`{label}`", *estimates, ", ".join(map(str, n_seeds))])
    return table(["", "IQM", "mean", "seeds on each env"], rows)


def costs(groups: Groups, labels: list[str]) -> str:
    """What a run costs: medians over the seeds on one machine."""
    rows = []
    for env, by_label in on_one_machine(groups).items():
        for label in labels:
            if label not in by_label:
                continue
            manifests = [run.manifest for run in by_label[label].runs]

            def median(name: str, manifests: list[dict] = manifests) -> float:
                return float(np.median([known[name] for known in manifests]))

            per_second = float(np.median([known["env_steps"] / known["train_cpu_seconds"] for known in manifests]))
            rows.append(
                [
                    env,
                    f"`{label}`",
                    f"{len(manifests)} of {len(groups[env][label].runs)}",
                    f"{median('env_steps'):,.0f}",
                    _minutes(median("train_seconds")),
                    _minutes(median("train_cpu_seconds")),
                    f"{per_second:,.0f}",
                    _minutes(median("eval_seconds")),
                    f"{median('peak_memory_mb'):,.0f}",
                ]
            )
    header = ["env", "", "seeds timed", "env steps made", "training, min", "CPU time of it, min"]
    return table([*header, "env steps a CPU second", "evaluation, min", "peak memory, MiB"], rows)


def not_timed(groups: Groups) -> str:
    """Who ran on other kinds of processors only, if anybody did."""
    timed = on_one_machine(groups)
    lines = [
        f"- {env}: {', '.join(f'`{label}`' for label in by_label if label not in timed[env])}"
        for env, by_label in groups.items()
        if set(by_label) - set(timed[env])
    ]
    return "\n".join(lines) + "\n" if lines else ""


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
        inexact = sum(any(session.get("resume") == INEXACT for session in known["sessions"]) for known in manifests)
        how = f", {inexact} of them not bit-equal to a run without interruption" if inexact else ""
        lines.append(f"- cells that were interrupted and continued from their last resume point: {resumed}{how}.")
    return "\n".join(lines) + "\n"
