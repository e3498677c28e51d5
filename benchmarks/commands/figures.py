"""Achieved over commanded returns, one panel an env, as the GoGePo paper's Figure 5."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.commands.cells import ALGOS
from benchmarks.commands.tables import Groups, sweeps
from benchmarks.report.data import Groups as Runs
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


#: Who take no commands, and their marks, large ones first, so that all are seen where they coincide
PEERS = {"ars": "D", "ddpg": "s", "td3": "^", "sac": "v"}


def fidelity(groups: Groups, runs: Runs) -> Figure:
    """Return of the best command over how closely all are met, a dot a seed; who takes no commands lies on the axis.

    Envs whose commands are without the bonus for staying alive are left out: returns of peers have it.

    :param runs: of the track "paper", for the peers' returns at the end.
    """
    envs = [env for env in dict.fromkeys(env for env, _ in groups) if not _has_bonus(groups, env)]
    figure, axes = make_figure(len(envs), n_columns=3, height=4.0)
    for ax, env in zip(axes, envs, strict=True):
        for algo in ALGOS:
            contents = groups.get((env, algo), [])
            measured = sweeps(contents, "trained")
            points = [(max(sweep.r2, 0.0), sweep.mean_returns[-1]) for sweep in measured]
            _draw_dots(ax, points, algo, COLORS[ALGOS.index(algo)], contents[0]["n_timesteps"] if contents else 0)
        for place, (peer, marker) in enumerate(PEERS.items()):
            group = runs.get(env, {}).get(peer)
            if group and group.runs:
                points = [(0.0, run.final_return) for run in group.runs]
                _draw_dots(ax, points, peer, COLORS[len(ALGOS) + place], group.n_timesteps, marker, 9.0 - 1.5 * place)
        ax.set(xlabel="R2 of commands (0: takes none, or no better)", ylabel="return of the best command", title=env)
        ax.set_xlim(-0.05, 1.05)
        ax.grid(alpha=0.3, linewidth=0.6)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=7.5)
    return figure


def _has_bonus(groups: Groups, env: str) -> bool:
    return any(
        content["hyperparams"].get("alive_bonus_offset")
        for (of, _), contents in groups.items()
        if of == env
        for content in contents
    )


def _draw_dots(
    ax: Axes, points: list[tuple[float, float]], algo: str, color: str, n_timesteps: int, marker: str = "o", size: float = 5
) -> None:
    if points:
        name = f"{algo} ({len(points)} seed{'s' if len(points) > 1 else ''}, {steps(n_timesteps)})"
        x, y = np.array(points).T
        ax.plot(x, y, marker, color=color, markersize=size, alpha=0.8, label=name, clip_on=False)
