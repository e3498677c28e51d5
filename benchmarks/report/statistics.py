"""Bootstrap intervals over seeds, curves on a common grid, IQM. All random numbers are seeded: same data, same result."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import bootstrap

from benchmarks.report.data import ENVS, Group

N_RESAMPLES = 20_000
#: resamples in memory at a time
BATCH = 500
#: a bootstrap interval of fewer seeds is far too narrow
MIN_SEEDS = 5


class Estimate(NamedTuple):
    """A mean and its 95 % interval, of fewer than ``MIN_SEEDS`` seeds the lowest and the highest; floats or arrays of one
    shape. With one seed both are nan."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def estimate_mean(samples: np.ndarray) -> Estimate:
    """Percentile bootstrap, or range, over the first axis of (n_seeds, ...) samples."""
    n_seeds = len(samples)
    mean = samples.mean(axis=0)
    if n_seeds < 2:
        return Estimate(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    if n_seeds < MIN_SEEDS:
        return Estimate(mean, samples.min(axis=0), samples.max(axis=0))
    interval = bootstrap(
        (samples,), np.mean, n_resamples=N_RESAMPLES, batch=BATCH, axis=0, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return Estimate(mean, interval.low, interval.high)


def common_curve(group: Group, axis: str) -> tuple[np.ndarray, Estimate]:
    """(x, estimate at x) over the seeds of a group.

    Over ``timesteps`` the evaluations of all seeds lie at the same steps. Over seconds there is a point at each evaluation of
    any seed; each seed keeps its last value until its next evaluation, and the last to the end: the curve begins where all
    seeds have begun, and ends with the slowest.
    """
    if axis == "timesteps":
        n_rows = min(len(run.returns) for run in group.runs)
        return group.runs[0].axes[axis][:n_rows], estimate_mean(np.stack([run.returns[:n_rows] for run in group.runs]))
    start = max(run.axes[axis][0] for run in group.runs)
    x = np.unique(np.concatenate([run.axes[axis] for run in group.runs]))
    x = x[x >= start]
    rows = [run.returns[np.searchsorted(run.axes[axis], x, side="right") - 1] for run in group.runs]
    return x, estimate_mean(np.stack(rows))


Interval = tuple[float, float, float]  # point, low, high; low and high nan with one seed


class Aggregate(NamedTuple):
    """IQM and mean of several algorithms over several envs, at equal env steps.

    All seeds count, and all envs alike, however many seeds each has. The IQM leaves out the lowest and the highest quarter
    of all runs, so of an algorithm that fails on one env of four all failures; the mean has them all.

    :param steps: env -> env steps at which the returns were taken.
    :param scores: label -> those of (n_seeds,) on each env: returns scaled as ``report.yml`` says.
    :param iqm: label -> IQM and its 95 % interval, of the scores.
    :param mean: label -> their mean and its 95 % interval.
    """

    steps: dict[str, int]
    scores: dict[str, list[np.ndarray]]
    iqm: dict[str, Interval]
    mean: dict[str, Interval]

    @property
    def n_seeds(self) -> dict[str, list[int]]:
        """Label -> seeds on each env."""
        return {label: list(map(len, scores)) for label, scores in self.scores.items()}


def aggregate(groups: dict[str, dict[str, Group]], labels: list[str], whole_runs: bool = False) -> Aggregate | None:
    """IQM and mean over the envs with a range, of the algorithms that have run on all of them.

    None if there are no such envs or algorithms.

    :param whole_runs: at the steps of the longest runs on each env, of the algorithms whose runs are that long, instead of
        at the steps that the runs of all algorithms have.
    """
    envs = [env for env in groups if "range" in ENVS.get(env, {})]
    longest = {env: max(group.n_timesteps for group in groups[env].values()) for env in envs}
    complete = [
        label
        for label in labels
        if all(label in groups[env] and not (whole_runs and groups[env][label].n_timesteps < longest[env]) for env in envs)
    ]
    # without runs that end before some other's first evaluation
    first = {env: max([groups[env][label].runs[0].axes["timesteps"][0] for label in complete], default=0) for env in envs}
    complete = [label for label in complete if all(groups[env][label].n_timesteps >= first[env] for env in envs)]
    if not envs or not complete:
        return None
    steps = longest if whole_runs else {env: min(groups[env][label].n_timesteps for label in complete) for env in envs}
    result = Aggregate(steps, {}, {}, {})
    for label in complete:
        scores = []
        for env in envs:
            low, high = ENVS[env]["range"]
            returns = np.array([run.return_near(steps[env]) for run in groups[env][label].runs])
            scores.append((returns - low) / (high - low))
        result.scores[label] = scores
        result.iqm[label], result.mean[label] = estimate_over_envs(scores)
    return result


def estimate_over_envs(scores: list[np.ndarray]) -> tuple[Interval, Interval]:
    """IQM and mean of (n_seeds,) scores on each env."""
    iqm, mean = _over_envs(_iqm_and_mean, scores)
    return iqm, mean


def performance_profile(scores: list[np.ndarray], thresholds: np.ndarray) -> list[Interval]:
    """For each threshold the fraction of runs with a higher score, all envs alike (rliable's performance profile)."""

    def above(*scores: np.ndarray) -> np.ndarray:
        return np.mean([(of_env[:, None] > thresholds).mean(axis=0) for of_env in scores], axis=0)

    return _over_envs(above, scores)


def probability_of_improvement(scores: list[np.ndarray], others: list[np.ndarray]) -> Interval:
    """Of a run with one of ``scores`` to beat one with one of ``others``, mean over envs; draws count half (as rliable)."""
    n_envs = len(scores)

    def improvement(*both: np.ndarray) -> np.ndarray:
        wins = [np.sign(x[:, None] - y).mean() for x, y in zip(both[:n_envs], both[n_envs:], strict=True)]
        return np.array([0.5 + 0.5 * np.mean(wins)])

    (estimate,) = _over_envs(improvement, [*scores, *others])
    return estimate


def _over_envs(statistic: Callable[..., np.ndarray], scores: list[np.ndarray]) -> list[Interval]:
    """A statistic's values, with intervals of rliable's stratified bootstrap: it resamples the seeds of each env among
    themselves. The number of seeds may differ between envs, which rliable's own functions do not allow. Of one seed on an
    env there is no interval."""
    from arch.bootstrap import IndependentSamplesBootstrap

    points = statistic(*scores)
    intervals = np.full((2, len(points)), np.nan)
    if min(map(len, scores)) > 1:
        bootstrap = IndependentSamplesBootstrap(*scores, seed=0)
        intervals = bootstrap.conf_int(statistic, reps=2000, method="percentile")
    return [(point, low, high) for point, low, high in zip(points, *intervals, strict=True)]


def _iqm_and_mean(*scores: np.ndarray) -> np.ndarray:
    from rliable import metrics

    n_rows = math.lcm(*map(len, scores))  # each seed as often as makes all envs equally long
    matrix = np.stack([np.repeat(of_env, n_rows // len(of_env)) for of_env in scores], axis=1)
    return np.array([metrics.aggregate_iqm(matrix), metrics.aggregate_mean(matrix)])
