"""Luck: how much of a return is chance, as policies that were run again show, and what can be expected of a policy then."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Single episodes whose spread counts, the latest
WINDOW = 100
#: Runs beyond a policy's first, all policies together, from which the luck is known
MIN_RERUNS = 5
#: Policies differ by at least this share of the variance of returns
SMALLEST_DIFFERENCE = 0.05


class Luck(NamedTuple):
    """Variances of returns.

    :param within: of the returns of one policy.
    :param total: of the returns of the latest policies, one episode each.
    :param mean: of these.
    """

    within: float
    total: float
    mean: float

    @classmethod
    def measured(cls, returns: np.ndarray, n_runs: np.ndarray, deviations: np.ndarray) -> Luck | None:
        """What the stored policies show; None: too few of them were run again.

        :param returns: (n_policies,) mean return of each, the oldest policy first.
        :param n_runs: (n_policies,) episodes of each.
        :param deviations: (n_policies,) sum of the squared distances of its returns from their mean.
        """
        n_reruns = int((n_runs - 1).sum())
        if n_reruns < MIN_RERUNS:
            return None
        single = returns[n_runs == 1][-WINDOW:]
        if len(single) < 2:
            return None
        return cls(float(deviations.sum()) / n_reruns, float(single.var()), float(single.mean()))

    @property
    def share(self) -> float:
        """Of the variance of returns, 0 to 1."""
        return min(self.within / self.total, 1.0) if self.total > 0 else 0.0

    def expected(self, returns: np.ndarray, n_runs: np.ndarray) -> np.ndarray:
        """(n_policies,) returns to expect of policies with such means of so many episodes.

        The posterior mean, if policies and episodes are normally distributed: the more of the variance is luck, the nearer
        is a single episode to the mean of all. (Efron and Morris, "Data Analysis Using Stein's Estimator and its
        Generalizations", 1975.)
        """
        between = max(self.total - self.within, SMALLEST_DIFFERENCE * self.total)
        if between <= 0:
            return returns
        n_prior = self.within / between
        return (n_runs * returns + n_prior * self.mean) / (n_runs + n_prior)
