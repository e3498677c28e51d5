"""The chart of ``docs/performance.md``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from benchmarks.report.figures import COLORS, make_figure, save

__all__ = ["draw_training", "save"]


def draw_training(costs: Mapping[str, np.ndarray]) -> Figure:
    """A bar each, of what env steps cost: the env itself, acting and all else, gradient steps.

    :param costs: name -> (n_turns, 2): CPU time of 1000 env steps in all, and that of their gradient steps, in ms. The last
        are those of the bare env.
    """
    figure, (ax,) = make_figure(1, n_columns=1, height=2.6)
    bare = list(costs.values())[-1]
    for i, (name, values) in enumerate(costs.items()):
        (total, gradient), env, start = np.median(values, axis=0), np.median(bare[:, 0]), 0.0
        for width, color in zip((env, total - gradient - env, gradient), COLORS[:3], strict=True):
            ax.barh(name, width, left=start, color=color)
            start += width
        ax.text(total, i, f" {np.median(values[:, 0] / bare[:, 0]):.1f}", va="center")
    ax.set(xlabel="CPU time of 1000 env steps, ms (numbers: times the bare env)", xlim=(0, 1.1 * ax.get_xlim()[1]))
    ax.invert_yaxis()
    ax.legend(ax.patches[:3], ("env", "acting, bookkeeping", "gradient steps"), loc="best", frameon=False)
    return figure
