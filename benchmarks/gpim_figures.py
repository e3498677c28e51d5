"""Draws what ``benchmarks.gpim`` has measured so far, and prints it as a table: ``python -m benchmarks.gpim_figures``.

- ``docs/figures/gpim.svg``: normalised distance to held-out goals over env steps, one curve a method.
- ``docs/figures/gpim_goals.svg``: paths of the goal-conditioned policy for each kind of goal.
- ``docs/figures/gpim_reward.svg``: the learned reward beside the straight-line distance and the way around the walls.

Needs matplotlib.
"""

from __future__ import annotations

import argparse
import heapq
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.gpim import MAP_SIDE, METHODS, RESULTS, TASKS, map_positions
from sb3_gogepo.gpim.navigation import LAYOUTS, SIZE

LABELS = {
    "gpim": "GPIM",
    "two_stage": "two-stage",
    "sac_l2": "SAC, reward: negative L2",
    "random": "random actions",
}
COLORS = {"gpim": "tab:blue", "two_stage": "tab:green", "sac_l2": "tab:orange", "random": "0.5"}
TITLES = {
    "fixed": "fixed goal: a place",
    "image": "goal: a picture",
    "dynamic": "moving goal",
    "sequence": "two places in order",
}
MAP_GOAL = np.array([1.5, 8.5])  # behind a wall


def read_curves(task: str, method: str) -> dict[int, np.ndarray]:
    """Seed -> (n_evaluations, n_columns) of the finished runs."""
    return {
        int(path.stem): np.loadtxt(path.with_suffix(".csv"), delimiter=",", skiprows=1, ndmin=2)
        for path in sorted((RESULTS / task / method).glob("*.json"))
    }


def draw_curves(ax: Axes) -> None:
    """Mean over seeds, and the range of the seeds."""
    last = 0.0
    for method in METHODS:
        curves = list(read_curves("fixed", method).values())
        if not curves:
            continue
        label = f"{LABELS[method]} ({len(curves)} seed{'s' if len(curves) > 1 else ''})"
        if method == "random":
            ax.axhline(np.mean([curve[0, 2] for curve in curves]), color=COLORS[method], linestyle="--", label=label)
            continue
        steps = np.mean([curve[:, 0] for curve in curves], axis=0)
        values = np.array([curve[:, 2] for curve in curves])
        last = max(last, steps[-1])
        ax.fill_between(steps, values.min(axis=0), values.max(axis=0), color=COLORS[method], alpha=0.15, linewidth=0)
        ax.plot(steps, values.mean(axis=0), color=COLORS[method], marker="o", markersize=3, label=label)
    ax.axhline(1, color="0.8", linewidth=1, zorder=0)
    ax.set(
        xlabel="env steps (of both policies, where there are two)",
        ylabel="normalised distance to 50 held-out goals",
        xlim=(0, last),
        ylim=(0, None),
        title="Navigation2D with walls; line: mean, band: range of the seeds",
    )
    ax.title.set_fontsize("medium")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize="small")


def draw_walls(ax: Axes, layout: str) -> None:
    """The plane."""
    for x0, y0, x1, y1 in LAYOUTS[layout]:
        ax.plot([x0, x1], [y0, y1], color="black", linewidth=3, solid_capstyle="butt")
    ax.set(xlim=(0, SIZE), ylim=(0, SIZE), aspect="equal", xticks=[0, 5, 10], yticks=[0, 5, 10])


def draw_paths(ax: Axes, task: str, n_goals: int) -> None:
    """The first held-out goals of the first seed: crosses, and where the policy went, from the dot to the ring."""
    seeds = sorted(read_curves(task, "gpim"))
    draw_walls(ax, TASKS[task][0]["layout"])
    if not seeds:
        ax.set_title(f"{TITLES[task]}\n(no run finished)", fontsize="medium")
        return
    arrays = np.load(RESULTS / task / "gpim" / f"{seeds[0]}.npz")
    positions, targets = arrays["positions"].astype(float), arrays["targets"].astype(float)
    moves = task in ("dynamic", "sequence")
    for k in range(2 if moves else n_goals):
        color = f"C{k}"
        ax.plot(*positions[k].T, color=color, linewidth=1.2)
        ax.plot(*positions[k, -1], marker="o", markerfacecolor="none", color=color)
        if task == "dynamic":
            ax.plot(*targets[k].T, color=color, linewidth=1.2, linestyle=":")
        places = targets[k, -1:] if not moves else targets[k, [len(targets[k]) // 2 - 1, -1]]
        ax.plot(*places.T, marker="x", linestyle="", color=color)
        if task == "sequence":
            for number, place in enumerate(places):
                ax.annotate(f" {number + 1}", place, color=color)
    ax.plot(SIZE / 2, SIZE / 2, marker="o", color="black", markersize=4)
    curves = read_curves(task, "gpim")
    mean = np.mean([curve[-1, 2] for curve in curves.values()])
    ax.set_title(f"{TITLES[task]}\nnormalised distance {mean:.2f} ({_count(len(curves))})", fontsize="medium")


def _count(n: int) -> str:
    return f"{n} seed{'s' if n != 1 else ''}"


def distances_around_walls(goal: np.ndarray, layout: str) -> np.ndarray:
    """(MAP_SIDE ** 2,) length of the shortest way to ``goal`` along the grid of the map, eight directions, through no wall."""
    positions = map_positions()
    start = int(np.linalg.norm(positions - goal, axis=1).argmin())
    distances = np.full(len(positions), np.inf)
    distances[start], queue = 0.0, [(0.0, start)]
    while queue:
        length, here = heapq.heappop(queue)
        if length > distances[here]:
            continue
        row, column = divmod(here, MAP_SIDE)
        for i in range(max(row - 1, 0), min(row + 2, MAP_SIDE)):
            for j in range(max(column - 1, 0), min(column + 2, MAP_SIDE)):
                there = i * MAP_SIDE + j
                new = length + float(np.linalg.norm(positions[here] - positions[there]))
                if new < distances[there] and not _crosses(positions[here], positions[there], layout):
                    distances[there] = new
                    heapq.heappush(queue, (new, there))
    return distances


def _crosses(one: np.ndarray, other: np.ndarray, layout: str) -> bool:
    """Is a wall between two neighbours? The walls are upright."""
    middle = (one[1] + other[1]) / 2
    return any(min(one[0], other[0]) < x < max(one[0], other[0]) and y0 <= middle <= y1 for x, y0, _, y1 in LAYOUTS[layout])


def learned_reward(log_q: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """(MAP_SIDE ** 2,) reward everywhere for the latent that the discriminator sees at ``goal``."""
    log_q = log_q.astype(float)
    at_goal = int(np.linalg.norm(map_positions() - goal, axis=1).argmin())
    return log_q[:, log_q[at_goal].argmax()] + np.log(log_q.shape[1])


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, of values without ties."""
    return float(np.corrcoef(one.argsort().argsort(), other.argsort().argsort())[0, 1])


def correlations(log_q: np.ndarray, goals: np.ndarray, layout: str) -> np.ndarray:
    """(n_goals, 2) rank correlations of the learned reward: with minus the way around walls, with minus the straight line."""
    rows = []
    for goal in goals:
        reward = learned_reward(log_q, goal)
        straight = np.linalg.norm(map_positions() - goal, axis=1)
        rows.append((rank_correlation(reward, -distances_around_walls(goal, layout)), rank_correlation(reward, -straight)))
    return np.array(rows)


def draw_reward(axes: Any, log_q: np.ndarray, seed: int) -> None:
    """Three maps for one goal: learned reward, negative straight line, negative way around the walls."""
    layout = TASKS["fixed"][0]["layout"]
    maps = (
        (f"learned reward (seed {seed})", learned_reward(log_q, MAP_GOAL)),
        ("negative straight-line distance", -np.linalg.norm(map_positions() - MAP_GOAL, axis=1)),
        ("negative way around the walls", -distances_around_walls(MAP_GOAL, layout)),
    )
    for ax, (title, values) in zip(axes, maps, strict=True):
        image = ax.imshow(values.reshape(MAP_SIDE, MAP_SIDE), origin="lower", extent=(0, SIZE, 0, SIZE), rasterized=True)
        draw_walls(ax, layout)
        ax.plot(*MAP_GOAL, marker="x", color="red", markersize=8, markeredgewidth=2)
        ax.set_title(title, fontsize="medium")
        ax.figure.colorbar(image, ax=ax, shrink=0.8)


def print_table() -> None:
    """Last evaluation of every method, mean and range over the seeds."""
    print(
        "| Goal | Method | Seeds | Env steps | Normalised distance: mean (range) | Within 1 of the goal |\n"
        "|---|---|---|---|---|---|"
    )
    for task in TASKS:
        for method in METHODS:
            curves = read_curves(task, method)
            if curves:
                last = np.array([curve[-1] for curve in curves.values()])
                values = f"{last[:, 2].mean():.2f} ({last[:, 2].min():.2f} to {last[:, 2].max():.2f})"
                share = f"{100 * last[:, 4].mean():.0f} %"
                steps = "-" if method == "random" else f"{last[:, 0].mean():,.0f}"
                print(f"| {task} | {LABELS[method]} | {len(curves)} | {steps} | {values} | {share} |")


def main() -> None:
    """Draw the three figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("docs/figures"))
    folder = parser.parse_args().folder
    plt.rcParams.update({"svg.hashsalt": "gpim", "svg.fonttype": "path"})  # the same file each time
    figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    draw_curves(ax)
    figure.savefig(folder / "gpim.svg", metadata={"Date": None})
    figure, axes = plt.subplots(1, len(TASKS), figsize=(12, 3.5), layout="constrained")
    for ax, task in zip(axes, TASKS, strict=True):
        draw_paths(ax, task, n_goals=6)
    figure.savefig(folder / "gpim_goals.svg", metadata={"Date": None})
    seeds = sorted(read_curves("fixed", "gpim"))
    for seed in seeds:
        arrays = np.load(RESULTS / "fixed" / "gpim" / f"{seed}.npz")
        layout = TASKS["fixed"][0]["layout"]
        around, straight = correlations(arrays["log_q"], arrays["targets"][:, -1].astype(float), layout).T
        print(
            f"seed {seed}: rank correlation of the learned reward, mean over {len(around)} goals: "
            f"{around.mean():.3f} with the way around the walls, {straight.mean():.3f} with the straight line"
        )
    if seeds:
        figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
        draw_reward(axes, np.load(RESULTS / "fixed" / "gpim" / f"{seeds[0]}.npz")["log_q"], seeds[0])
        figure.savefig(folder / "gpim_reward.svg", metadata={"Date": None}, dpi=150)
    print_table()
    commits = {json.loads(path.read_text())["commit"] for path in RESULTS.rglob("*.json")}
    print(f"commits: {', '.join(sorted(commits))}")


if __name__ == "__main__":
    main()
