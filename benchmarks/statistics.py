"""Bootstrap intervals over seeds, curves on a common grid, IQM. All random numbers are seeded: same data, same result."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks.data import ENVS, Group

N_RESAMPLES = 10_000


Interval = tuple[float, float, float]  # point, low, high; low and high nan with one seed


class Estimate(NamedTuple):
    """A mean and its 95 % interval; all are floats or arrays of one shape. With one seed there is no interval: nan."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def estimate_mean(samples: np.ndarray) -> Estimate:
    """Percentile bootstrap over the first axis of (n_seeds, ...) samples."""
    n_seeds = len(samples)
    mean = samples.mean(axis=0)
    if n_seeds < 2:
        return Estimate(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    counts = np.random.default_rng(0).multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=N_RESAMPLES)
    means = np.tensordot(counts / n_seeds, samples, axes=1)  # (N_RESAMPLES, ...)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return Estimate(mean, low, high)


def common_curve(group: Group, axis: str, n_points: int = 200) -> tuple[np.ndarray, Estimate]:
    """(x, estimate at x) over the seeds of a group.

    Over ``timesteps`` the evaluations of all seeds lie at the same steps. Over seconds each seed keeps its last value
    until its next evaluation, and the curve ends where the first seed has ended.
    """
    if axis == "timesteps":
        n_rows = min(len(run.returns) for run in group.runs)
        return group.runs[0].axes[axis][:n_rows], estimate_mean(np.stack([run.returns[:n_rows] for run in group.runs]))
    start = max(run.axes[axis][0] for run in group.runs)
    end = max(min(run.axes[axis][-1] for run in group.runs), start)
    x = np.geomspace(max(start, 1e-3), max(end, 1e-3), n_points)
    rows = [run.returns[np.searchsorted(run.axes[axis], x * (1 + 1e-9), side="right") - 1] for run in group.runs]
    return x, estimate_mean(np.stack(rows))


class Aggregate(NamedTuple):
    """IQM and mean of several algorithms over several envs, at equal env steps.

    The IQM leaves out the lowest and the highest quarter of all runs, so of an algorithm that fails on one env of four all
    failures; the mean has them all.

    :param steps: env -> env steps at which the returns were taken.
    :param n_seeds: label -> seeds used on each env.
    :param iqm: label -> IQM and its 95 % interval, of returns scaled as ``report.yml`` says.
    :param mean: label -> their mean and its 95 % interval.
    """

    steps: dict[str, int]
    n_seeds: dict[str, int]
    iqm: dict[str, Interval]
    mean: dict[str, Interval]


def aggregate(groups: dict[str, dict[str, Group]], labels: list[str], whole_runs: bool = False) -> Aggregate | None:
    """IQM and mean with rliable over the envs with a range, of the algorithms that have run on all of them.

    None if there are no such envs or algorithms.

    :param whole_runs: at the steps of the longest runs on each env, of the algorithms whose runs are that long, instead of
        at the steps that the runs of all algorithms have.
    """
    from rliable import library, metrics

    envs = [env for env in groups if "range" in ENVS.get(env, {})]
    longest = {env: max(group.n_timesteps for group in groups[env].values()) for env in envs}
    complete = [
        label
        for label in labels
        if all(label in groups[env] and not (whole_runs and groups[env][label].n_timesteps < longest[env]) for env in envs)
    ]
    if not envs or not complete:
        return None
    steps = longest if whole_runs else {env: min(groups[env][label].n_timesteps for label in complete) for env in envs}
    n_seeds = {label: min(len(groups[env][label].runs) for env in envs) for label in complete}
    scores = {}
    for label in complete:
        columns = []
        for env in envs:
            low, high = ENVS[env]["range"]
            runs = groups[env][label].runs[: n_seeds[label]]
            columns.append([(run.return_near(steps[env]) - low) / (high - low) for run in runs])
        scores[label] = np.array(columns).T  # (n_seeds, n_envs)
    generator_state = np.random.get_state()
    np.random.seed(0)  # rliable 1.2.0 draws from NumPy's global generator, whatever random_state it is given
    try:
        points, intervals = library.get_interval_estimates(
            scores, lambda x: np.array([metrics.aggregate_iqm(x), metrics.aggregate_mean(x)]), reps=2000
        )
    finally:
        np.random.set_state(generator_state)
    iqm, mean = (
        {
            label: (points[label][i], *(intervals[label][:, i] if n_seeds[label] > 1 else (np.nan, np.nan)))
            for label in complete
        }
        for i in range(2)
    )
    return Aggregate(steps, n_seeds, iqm, mean)
