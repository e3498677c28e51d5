"""Achieved over commanded returns, one panel an env, as the GoGePo paper's Figure 5."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.commands.cells import ALGOS
from benchmarks.commands.tables import Groups, sweeps
from benchmarks.report.data import Groups as Runs
from benchmarks.report.figures import COLORS, make_figure
from benchmarks.report.tables import seeds_and_steps


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
        _finish(ax, env, "commanded return", f"mean return of {n_episodes} episodes")
    return figure


def _draw_seeds(ax: Axes, groups: Groups, env: str, algo: str) -> None:
    contents = groups.get((env, algo), [])
    color, n = COLORS[ALGOS.index(algo)], len(contents)
    for i, (content, sweep) in enumerate(zip(contents, sweeps(contents, "trained"), strict=True)):
        name = f"{algo} ({seeds_and_steps(n, content['n_timesteps'])})" if i == 0 else None
        ax.plot(sweep.commands, sweep.mean_returns, color=color, linewidth=0.9, marker=".", markersize=3, label=name)
        if content.get("band") and algo == "gogepo":
            ax.axvspan(*np.array(content["band"]), color="grey", alpha=0.25 / n, linewidth=0)


#: Who take no commands, and their marks, large ones first, so that all are seen where they coincide
PEERS = {"ars": ("D", 9.0), "ddpg": ("s", 7.5), "td3": ("^", 6.0), "sac": ("v", 4.5)}


def envs_without_bonus(groups: Groups) -> list[str]:
    """Those whose commands are the env's own returns, as those of peers: without a bonus for staying alive to leave out."""
    with_bonus = {env for (env, _), of in groups.items() for content in of if content["hyperparams"].get("alive_bonus_offset")}
    return [env for env in dict.fromkeys(env for env, _ in groups) if env not in with_bonus]


def fidelity(groups: Groups, runs: Runs) -> Figure:
    """Return of the best command over how closely all are met, a dot a seed; who takes no commands lies on the axis.

    :param runs: of the track "paper", for the peers' returns at the end.
    """
    colors = dict(zip([*ALGOS, *PEERS], COLORS, strict=False))
    envs = envs_without_bonus(groups)
    figure, axes = make_figure(len(envs), n_columns=3, height=4.0)
    for ax, env in zip(axes, envs, strict=True):
        for algo, r2, returns, n_timesteps in _points(groups, runs, env):
            marker, size = PEERS.get(algo, ("o", 5.0))
            label = f"{algo} ({seeds_and_steps(len(returns), n_timesteps)})"
            ax.plot(r2, returns, marker, color=colors[algo], markersize=size, alpha=0.8, label=label, clip_on=False)
        ax.set_xlim(-0.05, 1.05)
        _finish(ax, env, "R2 of commands (0: takes none, or no better)", "return of the best command")
    return figure


def _points(groups: Groups, runs: Runs, env: str) -> Iterator[tuple[str, list[float], list[float], int]]:
    """Of each algorithm that has run: R2 and return of its seeds, and env steps."""
    for algo in ALGOS:
        if contents := groups.get((env, algo)):
            measured = sweeps(contents, "trained")
            r2, returns = [max(sweep.r2, 0.0) for sweep in measured], [sweep.mean_returns[-1] for sweep in measured]
            yield algo, r2, returns, contents[0]["n_timesteps"]
    for peer in PEERS:
        if (group := runs.get(env, {}).get(peer)) and group.runs:
            yield peer, [0.0] * len(group.runs), [run.final_return for run in group.runs], group.n_timesteps


def _finish(ax: Axes, env: str, x: str, y: str) -> None:
    """Labels, grid and a legend below, where it hides no data."""
    ax.set(xlabel=x, ylabel=y, title=env)
    ax.grid(alpha=0.3, linewidth=0.6)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=7.5)
