"""Learning curve and command sweep (the paper's Figures 3 and 5), drawn into Matplotlib axes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from sb3_gogepo.common.command_sweep import CommandSweep


def plot_learning_curve(ax: Axes, timesteps: np.ndarray, returns: np.ndarray, title: str = "") -> None:
    """Mean return of noise-free evaluations over env steps.

    :param timesteps: (n_evaluations,) env steps.
    :param returns: (n_evaluations, n_eval_episodes), as in SB3's ``evaluations.npz``.
    """
    returns = np.asarray(returns, dtype=float)
    means = returns.mean(axis=1)
    ax.fill_between(timesteps, returns.min(axis=1), returns.max(axis=1), alpha=0.2, linewidth=0, label="range of the episodes")
    ax.plot(timesteps, means, marker="o", markersize=3, label=f"mean of {returns.shape[1]} episodes, no noise")
    ax.set(xlabel="env steps", ylabel="episode return", title=title or "Learning curve of the best command")
    ax.grid(alpha=0.3)
    _legend_below(ax)


def plot_command_sweep(
    ax: Axes, sweep: CommandSweep, predicted: np.ndarray | None = None, highest_seen: float | None = None, title: str = ""
) -> None:
    """Achieved return over commanded return, beside the identity.

    :param predicted: (n_commands,) what the evaluator expects of each policy.
    :param highest_seen: marks the best return of the training; what lies beyond is extrapolation.
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


def _legend_below(ax: Axes) -> None:
    """Below the axes it hides no data."""
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False, fontsize="small")
