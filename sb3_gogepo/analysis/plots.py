"""Learning curve, policy map, command sweep (the paper's Figures 3, 4, 5) and probing states, drawn into Matplotlib axes."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from sb3_gogepo.analysis.policy_map import PolicyMap, ProbingStates
from sb3_gogepo.base.command_sweep import CommandSweep


def plot_learning_curve(ax: Axes, timesteps: np.ndarray, returns: np.ndarray, title: str = "") -> None:
    """Mean return of noise-free evaluations over env steps.

    :param ax: where to draw.
    :param timesteps: (n_evaluations,) env steps of the training up to each evaluation.
    :param returns: (n_evaluations, n_eval_episodes) returns, as in SB3's ``evaluations.npz``.
    :param title: of the axes; empty: a default one.
    """
    returns = np.asarray(returns, dtype=float)
    means = returns.mean(axis=1)
    ax.fill_between(timesteps, returns.min(axis=1), returns.max(axis=1), alpha=0.2, linewidth=0, label="range of the episodes")
    ax.plot(timesteps, means, marker="o", markersize=3, label=f"mean of {returns.shape[1]} episodes, no noise")
    ax.set(xlabel="env steps", ylabel="episode return", title=title or "Learning curve of the best command")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 50k, 1M
    ax.grid(alpha=0.3)
    _legend_below(ax)


def plot_command_sweep(
    ax: Axes, sweep: CommandSweep, predicted: np.ndarray | None = None, highest_seen: float | None = None, title: str = ""
) -> None:
    """Achieved return over commanded return, beside the identity.

    :param ax: where to draw.
    :param sweep: what each command achieved.
    :param predicted: (n_commands,) returns that the evaluator predicts for the policies; None: they are not drawn.
    :param highest_seen: best return of the training, which is marked: commands beyond it extrapolate. None: no mark.
    :param title: of the axes; empty: a default one.
    """
    low, high = float(sweep.commands.min()), float(sweep.commands.max())
    ax.plot([low, high], [low, high], linestyle="--", color="gray", label="achieved = commanded")
    ax.errorbar(
        sweep.commands,
        sweep.mean_returns,
        yerr=sweep.std_returns,
        marker="o",
        markersize=4,
        capsize=2,
        label="achieved (mean and std)",
    )
    if predicted is not None:
        ax.plot(sweep.commands, predicted, linestyle=":", color="tab:green", label="predicted by the evaluator")
    if highest_seen is not None and low < highest_seen < high:
        ax.axvline(highest_seen, color="tab:red", linewidth=1, label="best return in training")
    ax.set(xlabel="commanded return", ylabel="achieved return", title=title or "Policies of one generator, by command")
    ax.grid(alpha=0.3)
    _legend_below(ax)


def plot_policy_map(ax: Axes, policy_map: PolicyMap, title: str = "") -> None:
    """The buffer's policies colored by return, and the generator's path through them at each stage, pale to dark red.

    Each path leads from the lowest command (small dot) to the highest one (star).

    :param ax: where to draw.
    :param policy_map: what to draw.
    :param title: of the axes; empty: a default one.
    """
    order = np.argsort(policy_map.returns)  # the best on top
    points = ax.scatter(
        policy_map.points[order, 0],
        policy_map.points[order, 1],
        c=policy_map.returns[order],
        s=14,
        cmap="viridis",
        alpha=0.8,
        linewidths=0.3,
        edgecolors="0.4",
    )
    ax.figure.colorbar(points, ax=ax, label="return of the buffer's policies")
    colors = colormaps["Reds"](np.linspace(0.3, 1, max(len(policy_map.paths), 1)))
    for path, color in zip(policy_map.paths, colors, strict=False):
        ax.plot(*path.points.T, color=color, linewidth=1.5, label=f"generator, {path.timesteps:,} steps")
        ax.plot(*path.points[0], marker="o", markersize=4, color=color, markeredgecolor="black", markeredgewidth=0.5)
        ax.plot(*path.points[-1], marker="*", markersize=11, color=color, markeredgecolor="black", markeredgewidth=0.5)
    first, second = policy_map.explained
    ax.set(
        xlabel=f"component 1 ({first:.0%} of the variance)",
        ylabel=f"component 2 ({second:.0%})",
        title=title or f"Policies by what they do in {policy_map.probing} probing states",
    )
    if policy_map.paths:
        _legend_below(ax, title="path from the lowest command (dot) to the highest (star)")


def plot_probing_states(
    ax: Axes, probing_states: ProbingStates, max_states: int = 20, names: list[str] | None = None, title: str = ""
) -> None:
    """The most influential probing states, a row each; colors are normalized observations, 0 being the mean seen.

    :param ax: where to draw.
    :param probing_states: what to draw, the most influential first.
    :param max_states: number of probing states drawn.
    :param names: names of the observation's dimensions; None: their indices.
    :param title: of the axes; empty: a default one.
    """
    n = min(max_states, len(probing_states.states))
    states, influence = probing_states.states[:n], probing_states.influence[:n]
    limit = max(float(np.abs(states).max()), 1e-6)
    image = ax.imshow(states, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    ax.figure.colorbar(image, ax=ax, label="standard deviations from the mean observation")
    labels = names or [str(i) for i in range(states.shape[1])]
    ax.set_xticks(range(states.shape[1]), labels, rotation=0 if states.shape[1] <= 12 else 90)
    ax.set_yticks(range(n), [f"{share:.1%}" for share in influence], fontsize="small")
    ax.set(
        xlabel="dimension of the observation",
        ylabel="share of influence on V",
        title=title or f"Learned probing states, {n} of {len(probing_states.states)}",
    )


def _legend_below(ax: Axes, title: str | None = None) -> None:
    """Draw the legend below the axes, where it hides no data."""
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=3,
        frameon=False,
        fontsize="small",
        title=title,
        title_fontsize="small",
    )
