"""Achieved over commanded returns, one panel an env, as the GoGePo paper's Figure 5."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.commands.cells import ALGOS
from benchmarks.commands.tables import Groups, sweeps
from benchmarks.report.figures import COLORS, make_figure
from benchmarks.report.tables import steps


def commanded_and_achieved(groups: Groups, algos: tuple[str, ...]) -> Figure:
    """A thin line a seed, as trained, and the diagonal, where commands are met.

    Where a band of returns was hidden from the training, it is shaded.
    """
    envs = list(dict.fromkeys(env for env, algo in groups if algo in algos))
    figure, axes = make_figure(len(envs), n_columns=3, height=3.6)
    for ax, env in zip(axes, envs, strict=True):
        for algo in algos:
            _draw_seeds(ax, groups, env, algo)
        low, high = ax.get_xlim()
        ax.axline((low, low), slope=1, color="black", linestyle="--", linewidth=0.9, label="met")
        ax.set_xlim(low, high)
        (n_episodes,) = {content["episodes"][0] for algo in algos for content in groups.get((env, algo), [])}
        ax.set(xlabel="commanded return", ylabel=f"mean return of {n_episodes} episodes", title=env)
        ax.grid(alpha=0.3, linewidth=0.6)
        # below, where it hides no data
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=7.5)
    return figure


def _draw_seeds(ax: Axes, groups: Groups, env: str, algo: str) -> None:
    contents = groups.get((env, algo), [])
    color, n = COLORS[ALGOS.index(algo)], len(contents)
    for i, (content, sweep) in enumerate(zip(contents, sweeps(contents, "trained"), strict=True)):
        name = f"{algo} ({n} seed{'s' if n > 1 else ''}, {steps(content['n_timesteps'])})" if i == 0 else None
        ax.plot(sweep.commands, sweep.mean_returns, color=color, linewidth=0.9, marker=".", markersize=3, label=name)
        if content.get("band") and algo == "gogepo":
            ax.axvspan(*np.array(content["band"]), color="grey", alpha=0.25 / n, linewidth=0)
