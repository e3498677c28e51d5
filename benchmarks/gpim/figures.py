"""Draws what ``benchmarks.gpim`` has measured so far, and writes the docs' tables: ``python -m benchmarks.gpim.figures``.

- ``docs/figures/gpim.svg``: normalized distance to held-out goals over env steps, one curve a method.
- ``docs/figures/gpim_goals.svg``: paths of the goal-conditioned policy for each kind of goal.
- ``docs/learning_curves/gpim.md``, ``gpim_reward.md``: the last evaluation of each method; the learned reward in numbers.
- ``docs/figures/gpim_reward.svg``: the learned reward beside the straight-line distance and the way around the walls.

Needs matplotlib.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.gpim.runs import MAP_SIDE, METHODS, RESULTS, map_positions
from benchmarks.gpim.tasks import TASKS, in_order
from benchmarks.report import tables
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
ROWS = {
    "fixed": "fixed",
    "image": "picture",
    "dynamic": "moving",
    "sequence": "sequence",
    "maze": "PointMaze_UMaze",
    "swimmer": "Swimmer, a pose",
    "swimmer_state": "Swimmer, its state",
}
TABLE = Path(__file__).parents[2] / "docs" / "learning_curves" / "gpim.md"
MAP_TITLES = {"fixed": "learned reward", "map": "with more exploration"}
MAP_RUNS = {"fixed": "Runs above", "map": "More exploration"}
NEAR = 5.0
REWARD_TABLE = TABLE.with_name("gpim_reward.md")
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
        ylabel="normalized distance to 50 held-out goals",
        xlim=(0, last),
        ylim=(0, None),
        title="Navigation2D with walls; line: mean, band: range of the seeds",
    )
    ax.title.set_fontsize("medium")
    ax.grid(alpha=0.3)
    ax.set_ylim(0, 2)
    ax.legend(frameon=False, fontsize="small", loc="upper right")


def draw_walls(ax: Axes, layout: str) -> None:
    """The plane."""
    for x0, y0, x1, y1 in LAYOUTS[layout]:
        ax.plot([x0, x1], [y0, y1], color="black", linewidth=3, solid_capstyle="butt")
    ax.set(xlim=(0, SIZE), ylim=(0, SIZE), aspect="equal", xticks=[0, 5, 10], yticks=[0, 5, 10])


def draw_paths(ax: Axes, task: str, n_goals: int) -> None:
    """The first held-out goals of the first seed: crosses, and where the policy went, from the dot to the ring."""
    seeds = sorted(read_curves(task, "gpim"))
    draw_walls(ax, TASKS[task].env_arguments["layout"])
    arrays = np.load(RESULTS / task / "gpim" / f"{seeds[0]}.npz")
    positions, targets = arrays["positions"].astype(float), arrays["targets"].astype(float)
    moves = task in ("dynamic", "sequence")
    for k in range(2 if moves else n_goals):
        color = f"C{k}"
        ax.plot(*positions[k].T, color=color, linewidth=1.2)
        ax.plot(*positions[k, -1], marker="o", markerfacecolor="none", color=color, clip_on=False)
        if task == "dynamic":
            ax.plot(*targets[k].T, color=color, linewidth=1.2, linestyle=":")
        places = targets[k, -1:] if not moves else targets[k, [len(targets[k]) // 2 - 1, -1]]
        ax.plot(*places.T, marker="x", linestyle="", color=color, clip_on=False)
        if task == "sequence":
            for number, place in enumerate(places):
                ax.annotate(f" {number + 1}", place, color=color)
    ax.plot(SIZE / 2, SIZE / 2, marker="o", color="black", markersize=4)
    curves = read_curves(task, "gpim")
    mean = np.mean([curve[-1, 2] for curve in curves.values()])
    ax.set_title(f"{TITLES[task]}\nnormalized distance {mean:.2f} ({_count(len(curves))})", fontsize="medium")


def _count(n: int) -> str:
    return f"{n} seed{'s' if n != 1 else ''}"


def distances_straight(goal: np.ndarray) -> np.ndarray:
    """(MAP_SIDE ** 2,) length of the straight line to ``goal``."""
    return np.linalg.norm(map_positions() - goal, axis=1)


def distances_around_walls(goal: np.ndarray, layout: str) -> np.ndarray:
    """(MAP_SIDE ** 2,) length of the shortest way to ``goal`` along the grid of the map, eight directions, through no wall."""
    start = nearest(goal)
    distances = np.full(MAP_SIDE**2, np.inf)
    distances[start], queue = 0.0, [(0.0, start)]
    while queue:
        length, here = heapq.heappop(queue)
        if length > distances[here]:
            continue
        for there, step in neighbors(layout)[here]:
            if length + step < distances[there]:
                distances[there] = length + step
                heapq.heappush(queue, (length + step, there))
    return distances


@functools.cache
def neighbors(layout: str) -> list[list[tuple[int, float]]]:
    """For each point of the map, its neighbors that no wall hides, with their distances. The walls are upright."""
    positions, result = map_positions(), []
    for here, one in enumerate(positions):
        row, column = divmod(here, MAP_SIDE)
        around = [(i, j) for i in range(row - 1, row + 2) for j in range(column - 1, column + 2)]
        inside = [i * MAP_SIDE + j for i, j in around if 0 <= i < MAP_SIDE and 0 <= j < MAP_SIDE and (i, j) != (row, column)]
        seen = [there for there in inside if not _crosses(one, positions[there], layout)]
        result.append([(there, float(np.linalg.norm(one - positions[there]))) for there in seen])
    return result


def _crosses(one: np.ndarray, other: np.ndarray, layout: str) -> bool:
    middle = (one[1] + other[1]) / 2
    return any(min(one[0], other[0]) < x < max(one[0], other[0]) and y0 <= middle <= y1 for x, y0, _, y1 in LAYOUTS[layout])


def nearest(place: np.ndarray) -> int:
    """The point of the map next to ``place``."""
    return int(np.linalg.norm(map_positions() - place, axis=1).argmin())


def pairs_at_walls(layout: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) pairs of points of the map, 1 apart: with a wall between them, and beside the wall with nothing between."""
    across, beside = [], []
    for x, y0, _, y1 in LAYOUTS[layout]:
        for y in np.arange(y0 + 0.5, y1 - 1):
            left, right = np.array([x - 0.4, y]), np.array([x + 0.6, y])
            across.append((nearest(left), nearest(right)))
            up = np.array([0.0, 1.0])
            beside += [(nearest(left), nearest(left + up)), (nearest(right), nearest(right + up))]
    return np.array(across), np.array(beside)


def reward_between(log_q: np.ndarray, pairs: np.ndarray) -> float:
    """Mean reward of the goal-conditioned policy for being at the one point of a pair with the other one as its goal."""
    log_q = log_q.astype(float)
    both_ways = np.concatenate([pairs, pairs[:, ::-1]])
    here, goal = log_q[both_ways[:, 0]], log_q[both_ways[:, 1]]
    return float((np.exp(goal) * here).sum(axis=1).mean() + np.log(log_q.shape[1]))


def learned_reward(log_q: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """(MAP_SIDE ** 2,) reward of the goal-conditioned policy everywhere, with the place ``goal`` as its goal."""
    log_q = log_q.astype(float)
    return log_q @ np.exp(log_q[nearest(goal)]) + np.log(log_q.shape[1])


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, of values without ties."""
    return float(np.corrcoef(one.argsort().argsort(), other.argsort().argsort())[0, 1])


def partial_rank_correlation(one: np.ndarray, other: np.ndarray, given: np.ndarray) -> float:
    """Rank correlation of two quantities where a third one is the same."""
    both, first, second = rank_correlation(one, other), rank_correlation(one, given), rank_correlation(other, given)
    return float((both - first * second) / np.sqrt((1 - first**2) * (1 - second**2)))


def map_statistics(log_q: np.ndarray, goals: np.ndarray, ways: list[np.ndarray], layout: str) -> dict[str, float]:
    """What the learned reward of a run has to do with the way around the walls, and with the straight line.

    Rank correlations over the plane, mean over the goals; partial ones within :data:`NEAR` of those goals where a wall makes
    the way longer by 2 or more somewhere; and the mean reward 1 from the goal.

    :param ways: :func:`distances_around_walls` of each goal.
    """
    over_plane, near_walls = [], []
    for goal, around in zip(goals, ways, strict=True):
        reward, straight = learned_reward(log_q, goal), distances_straight(goal)
        over_plane.append((rank_correlation(reward, -around), rank_correlation(reward, -straight)))
        near = straight < NEAR
        if (around - straight)[near].max() >= 2:
            r, a, s = reward[near], -around[near], -straight[near]
            near_walls.append((partial_rank_correlation(r, a, s), partial_rank_correlation(r, s, a)))
    with_around, with_straight = np.mean(over_plane, axis=0)
    with_around_near, with_straight_near = np.mean(near_walls, axis=0)
    across, beside = (reward_between(log_q, pairs) for pairs in pairs_at_walls(layout))
    return {
        "Rank correlation with the way around the walls": with_around,
        "Rank correlation with the straight line": with_straight,
        "Near walls: with the way around the walls, at equal straight line": with_around_near,
        "Near walls: with the straight line, at equal way around the walls": with_straight_near,
        "Reward 1 unit from the goal, across a wall": across,
        "Reward 1 unit from the goal, beside the wall": beside,
    }


def draw_reward(axes: Any) -> None:
    """Maps for one goal: learned reward of the first seed of each task that has one, straight line, way around the walls."""
    layout = TASKS["fixed"].env_arguments["layout"]
    maps = [
        ("negative straight-line distance", -distances_straight(MAP_GOAL)),
        ("negative way around the walls", -distances_around_walls(MAP_GOAL, layout)),
    ]
    for task, log_qs in reversed(read_log_qs().items()):
        seed = min(log_qs)
        maps.insert(0, (f"{MAP_TITLES[task]} (seed {seed})", learned_reward(log_qs[seed], MAP_GOAL)))
    for ax, (title, values) in zip(axes, maps, strict=True):
        image = ax.imshow(values.reshape(MAP_SIDE, MAP_SIDE), origin="lower", extent=(0, SIZE, 0, SIZE), rasterized=True)
        draw_walls(ax, layout)
        ax.plot(*MAP_GOAL, marker="x", color="red", markersize=8, markeredgewidth=2)
        ax.set_title(title, fontsize="medium")
        ax.figure.colorbar(image, ax=ax, shrink=0.8)


def read_log_qs() -> dict[str, dict[int, np.ndarray]]:
    """Task with walls -> seed -> its map, of the finished runs."""
    found = {
        task: {seed: np.load(RESULTS / task / "gpim" / f"{seed}.npz")["log_q"] for seed in sorted(read_curves(task, "gpim"))}
        for task in MAP_TITLES
    }
    return {task: log_qs for task, log_qs in found.items() if log_qs}


def reward_table() -> str:
    """:func:`map_statistics` of the learned rewards, lowest and highest of the seeds, in Markdown."""
    layout = TASKS["fixed"].env_arguments["layout"]
    goals = np.load(RESULTS / "fixed" / "gpim" / "1.npz")["targets"][:, -1].astype(float)
    ways = [distances_around_walls(goal, layout) for goal in goals]
    header, columns = [""], []
    for task, log_qs in read_log_qs().items():
        header.append(f"{MAP_RUNS[task]} ({_count(len(log_qs))})")
        columns.append([map_statistics(log_q, goals, ways, layout) for log_q in log_qs.values()])
    rows = []
    for title in columns[0][0]:
        ranges = [[statistics[title] for statistics in column] for column in columns]
        rows.append([title, *(f"{min(values):.2f} to {max(values):.2f}" for values in ranges)])
    both = np.mean([rank_correlation(distances_straight(goal), way) for goal, way in zip(goals, ways, strict=True)])
    between = f"Between the straight line and the way around the walls, the rank correlation is {both:.2f}.\n"
    return tables.table(header, rows) + "\n" + between


def results_table() -> str:
    """Last evaluation of every method, mean and range over the seeds, in Markdown."""
    rows = []
    for task, title in ROWS.items():
        for method in METHODS:
            curves = read_curves(task, method)
            if not curves:
                continue
            last = np.array([curve[-1] for curve in curves.values()])
            low, mean, high = last[:, 2].min(), last[:, 2].mean(), last[:, 2].max()
            values = f"{mean:.2f} ({low:.2f} to {high:.2f})" if len(curves) > 1 else f"{mean:.2f}"
            steps = "-" if method == "random" else f"{last[:, 0].mean():,.0f}"
            reached = f"{100 * last[:, 4].mean():.0f} % (within {TASKS[task].radius:g})"
            rows.append([title, LABELS[method], len(curves), steps, values, reached])
    header = ["Goal", "Method", "Seeds", "Env steps", "Normalized distance: mean (range)", "Goals reached"]
    return tables.table(header, rows)


def print_order() -> None:
    """For how many of the sequences the first place is the nearer one when it is due."""
    for method in METHODS:
        for seed in read_curves("sequence", method):
            arrays = np.load(RESULTS / "sequence" / method / f"{seed}.npz")
            positions, targets = arrays["positions"].astype(float), arrays["targets"].astype(float)
            share = f"{100 * in_order(positions, targets).mean():.0f} %"
            print(f"sequence, {method}, seed {seed}: nearer to the first place than to the second when it is due: {share}")


def main() -> None:
    """Draw the three figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("docs/figures"))
    parser.add_argument("--suffix", choices=("svg", "png"), default="svg", help="png is for looking at it")
    arguments = parser.parse_args()
    folder, suffix = arguments.folder, arguments.suffix
    plt.rcParams.update({"svg.hashsalt": "gpim", "svg.fonttype": "path"})  # the same file each time
    figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    draw_curves(ax)
    figure.savefig(folder / f"gpim.{suffix}", metadata={"Date": None} if suffix == "svg" else None)
    finished = [task for task in TITLES if read_curves(task, "gpim")]
    figure, axes = plt.subplots(1, len(finished), figsize=(3 * len(finished), 3.5), layout="constrained", squeeze=False)
    for ax, task in zip(axes[0], finished, strict=True):
        draw_paths(ax, task, n_goals=6)
    figure.savefig(folder / f"gpim_goals.{suffix}", metadata={"Date": None} if suffix == "svg" else None)
    n_maps = len(read_log_qs())
    if n_maps:
        REWARD_TABLE.write_text(reward_table(), encoding="utf-8")
        figure, axes = plt.subplots(1, n_maps + 2, figsize=(3.7 * (n_maps + 2), 3.4), layout="constrained")
        draw_reward(axes)
        figure.savefig(folder / f"gpim_reward.{suffix}", metadata={"Date": None} if suffix == "svg" else None, dpi=150)
    print_order()
    TABLE.write_text(results_table(), encoding="utf-8")
    commits = {json.loads(path.read_text())["commit"] for path in RESULTS.rglob("*.json")}
    print(f"commits: {', '.join(sorted(commits))}")


if __name__ == "__main__":
    main()
