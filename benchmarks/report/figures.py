"""The report's figures: one panel an env."""

from __future__ import annotations

import textwrap
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.report.data import Group
from benchmarks.report.statistics import (
    Aggregate,
    Estimate,
    common_curve,
    performance_profile,
    probability_of_improvement,
)
from benchmarks.report.tables import seeds_and_steps, steps

# Okabe and Ito's colors, which color-blind readers can tell apart, then two more
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31", "#888888", "#B10DC9"]
# Interrupted lines lie above unbroken ones, so that of two equal curves both can be seen
LINES: list[dict[str, Any]] = [
    dict(color=color, linestyle=style, zorder=2.0 if style == "-" else 2.1)
    for color, style in zip(COLORS, cycle(("-", "--", "-.")), strict=False)
]
AXES = {
    "timesteps": "env steps",
    "train_seconds": "training wall clock, minutes",
    "train_cpu_seconds": "training CPU time, minutes",
}


def save(figure: Figure, path: Path) -> None:
    """As PNG, without date or version: the same data give the same file."""
    FigureCanvasAgg(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def make_figure(n_panels: int, n_columns: int = 2, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    """A figure of small panels."""
    n_columns = min(n_columns, n_panels)
    n_rows = -(-n_panels // n_columns)
    figure = Figure(figsize=(max(5.2 * n_columns, 6.4), height * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel().tolist()
    for unused in axes[n_panels:]:
        unused.set_visible(False)
    return figure, axes[:n_panels]


def draw_group(ax: Axes, group: Group, axis: str, name: str, line: dict[str, Any], until: float = np.inf) -> None:
    """Mean over seeds and its 95 % interval, of few seeds their range, up to ``until`` on the axis; the legend says seeds
    and steps of whole runs."""
    x, estimate = common_curve(group, axis)
    shown = x <= until
    x, estimate = x[shown], Estimate(*(values[shown] for values in estimate))
    over_time = axis != "timesteps"  # there each seed keeps its last value until its next evaluation
    if over_time:
        x = x / 60
    n_seeds = len(group.runs)
    note = f"{name} ({seeds_and_steps(n_seeds, group.n_timesteps)})"
    drawstyle = "steps-post" if over_time else "default"
    ax.plot(x, estimate.mean, **line, drawstyle=drawstyle, linewidth=1.6, label=note, marker="o" if len(x) == 1 else None)
    if n_seeds > 1:
        band = dict(color=line["color"], alpha=0.18, linewidth=0)
        ax.fill_between(x, estimate.low, estimate.high, step="post" if over_time else None, **band)


def finish(ax: Axes, env: str, axis: str) -> None:
    """Labels, grid and a legend below, where it hides no data."""
    ax.set(xlabel=AXES[axis], ylabel="return of 10 episodes, no noise", title=env)
    if axis == "timesteps":
        ax.xaxis.set_major_formatter(lambda value, _: steps(value) if value else "0")
        ax.set_xlim(left=0)
    else:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.grid(alpha=0.3, linewidth=0.6)
    longest = max(len(label) for label in ax.get_legend_handles_labels()[1])
    n_columns = 2 if longest <= 36 else 1  # two long ones would be wider than the panel
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=n_columns, frameon=False, fontsize=7.5)


def learning_curves(
    groups: dict[str, dict[str, Group]], labels: list[str], axis: str, until: dict[str, int] | None = None
) -> Figure:
    """One panel an env, one line an algorithm.

    :param until: env -> where its panel ends; None: where its runs do.
    """
    figure, axes = make_figure(len(groups))
    for ax, (env, by_label) in zip(axes, groups.items(), strict=True):
        for label, line in zip(labels, LINES, strict=False):
            if label in by_label:
                draw_group(ax, by_label[label], axis, label, line, until[env] if until else np.inf)
        finish(ax, env, axis)
    return figure


def ablation(groups: dict[str, dict[str, Group]], names: dict[str, str]) -> Figure:
    """One panel an env, one line a variant.

    :param names: label -> what the legend calls it.
    """
    envs = {env: by_label for env, by_label in groups.items() if sum(label in by_label for label in names) > 1}
    figure, axes = make_figure(len(envs))
    for ax, (env, by_label) in zip(axes, envs.items(), strict=True):
        for (label, name), line in zip(names.items(), LINES, strict=False):
            if label in by_label:
                draw_group(ax, by_label[label], "timesteps", name, line)
        finish(ax, env, "timesteps")
    return figure


def several_envs(result: Aggregate) -> Figure:
    """IQM and mean with their intervals side by side, one bar an algorithm, best IQM on top."""
    order = sorted(result.iqm, key=lambda label: result.iqm[label][0])
    figure = Figure(figsize=(8.4, 1.4 + 0.34 * len(order)), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, values, name in zip(axes, (result.iqm, result.mean), ("IQM", "mean"), strict=True):
        for place, label in enumerate(order):
            _draw_interval(ax, place, *values[label])
        ax.set_xlabel(f"{name} of scaled returns, 95 % interval")
        ax.grid(alpha=0.3, axis="x")
    names = [f"{label} ({', '.join(map(str, result.n_seeds[label]))} seeds)" for label in order]
    axes[0].set_yticks(np.arange(len(order)), names)
    _say_steps(figure, result)
    return figure


def profiles(result: Aggregate, labels: list[str]) -> Figure:
    """How many runs are better than a score, one line an algorithm; and how often one of the first algorithm's runs is better
    than one of another's, a bar each."""
    first, *others = (label for label in labels if label in result.scores)
    figure = Figure(figsize=(10.4, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    thresholds = np.linspace(0, 1, 201)
    for label, line in zip(labels, LINES, strict=False):
        if label in result.scores:
            above, low, high = np.array(performance_profile(result.scores[label], thresholds)).T
            left.plot(thresholds, above, **line, linewidth=1.6, label=label)
            left.fill_between(thresholds, low, high, color=line["color"], alpha=0.15, linewidth=0)
    left.set(xlabel="scaled return", ylabel="fraction of runs with more", xlim=(0, 1), ylim=(-0.02, 1.02))
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, frameon=False, fontsize=7.5)
    for place, label in enumerate(reversed(others)):
        _draw_interval(right, place, *probability_of_improvement(result.scores[first], result.scores[label]))
    right.axvline(0.5, color="black", linewidth=0.8, linestyle="--")
    right.set_yticks(np.arange(len(others)), [f"than {label}" for label in reversed(others)])
    right.set(xlabel=f"probability that a run of {first} is better", xlim=(0, 1.02))
    for ax in (left, right):
        ax.grid(alpha=0.3, linewidth=0.6)
    _say_steps(figure, result)
    return figure


def _draw_interval(ax: Axes, place: int, point: float, low: float, high: float) -> None:
    if np.isfinite(low):
        ax.fill_betweenx([place - 0.25, place + 0.25], low, high, color=COLORS[0], alpha=0.4, linewidth=0)
    ax.plot([point, point], [place - 0.25, place + 0.25], color="black", linewidth=1.5)


def _say_steps(figure: Figure, result: Aggregate) -> None:
    at = ", ".join(f"{env} {steps(n)}" for env, n in result.steps.items())
    figure.suptitle(textwrap.fill("At " + at, width=110), fontsize=8)
