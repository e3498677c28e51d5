"""The docs' tables of how closely commands are met, in Markdown, from the committed files alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.commands.cells import ALGOS, BUDGETS, HIDDEN, N_SEEDS, PLAIN, can_run
from benchmarks.commands.measure import read_sweep
from benchmarks.report.tables import number, steps, table
from benchmarks.run.layout import read_json
from sb3_gogepo.base.command_sweep import CommandSweep

Content = dict[str, Any]
#: (env, algo) -> the files of its seeds, the lowest seed first
Groups = dict[tuple[str, str], list[Content]]


class Target(NamedTuple):
    """What the median over seeds of GoGePo should reach; None: no such target."""

    r2: float | None = None
    error: float | None = None
    calibrated_error: float | None = None


TARGETS = {
    "Swimmer-v3": Target(r2=0.97, error=0.04, calibrated_error=0.02),
    "Hopper-v3": Target(r2=0.95, error=0.05, calibrated_error=0.03),
    "HalfCheetah-v3": Target(r2=0.95),
    "InvertedPendulum-v2": Target(r2=0.9),
}


def load(results: Path, track: str) -> Groups:
    """All files of a track; envs and algorithms in the order of the benchmark.

    :raises ValueError: if seeds of one algorithm and env differ in env steps or episodes.
    """
    groups: Groups = {}
    for path in (results / track).glob("*/*/*.json"):
        content = read_json(path)
        groups.setdefault((content["env"], content["algo"]), []).append(content)
    for key, contents in groups.items():
        contents.sort(key=lambda content: content["seed"])
        if len({(content["n_timesteps"], *content["episodes"]) for content in contents}) > 1:
            raise ValueError(f"seeds of {key} in {results / track} differ in env steps or episodes")
    envs = [*BUDGETS, *sorted({env for env, _ in groups} - {*BUDGETS})]
    return dict(sorted(groups.items(), key=lambda item: (envs.index(item[0][0]), ALGOS.index(item[0][1]))))


def sweeps(contents: list[Content], kind: str, protocol: str = "range") -> list[CommandSweep]:
    """One a seed; none where ``kind`` ("trained", "calibrated") was not measured."""
    return [read_sweep(content[kind][protocol]) for content in contents if kind in content]


def median_and_seeds(values: Iterable[float], show: Callable[[float], str]) -> str:
    """``median (seed, seed, ...)``."""
    values = list(values)
    return f"{show(float(np.median(values)))} ({', '.join(map(show, values))})" if values else ""


def percent(value: float) -> str:
    """12.3 %."""
    return f"{value:.1%}".replace("%", " %")


def _r2(value: float) -> str:
    return f"{value:.3f}"


def _first_cells(key: tuple[str, str], contents: list[Content]) -> list[str]:
    seeds = ", ".join(str(content["seed"]) for content in contents)
    return [key[0], f"`{key[1]}`", steps(contents[0]["n_timesteps"]), seeds]


FIRST = ["Env", "Algorithm", "Env steps", "Seeds"]


def over_the_range(groups: Groups) -> str:
    """Our protocol, as trained and calibrated."""
    rows = []
    for key, contents in groups.items():
        target = TARGETS.get(key[0], Target()) if key[1] == "gogepo" else Target()
        cells = _first_cells(key, contents)
        for kind, r2, error in (
            ("trained", target.r2, target.error),
            ("calibrated", None, target.calibrated_error),
        ):
            measured = sweeps(contents, kind)
            of_r2 = f"; target {r2:g}" if r2 else ""
            of_error = f"; target {error:.0%}".replace("%", " %") if error else ""
            cells.append(median_and_seeds([sweep.r2 for sweep in measured], _r2) + of_r2)
            cells.append(median_and_seeds([sweep.mean_error for sweep in measured], percent) + of_error)
        adopted = [content["calibration"]["is_adopted"] for content in contents if "calibration" in content]
        cells.append(f"{sum(adopted)} of {len(adopted)}" if adopted else "")
        rows.append([*cells, percent(float(np.median([error_by_chance(content) for content in contents])))])
    header = ["R2", "Mean error", "R2, calibrated", "Mean error, calibrated", "Calibrations adopted", "Error by chance"]
    return table([*FIRST, *header], rows)


def error_by_chance(content: Content) -> float:
    """Mean error, as a share of the range, of commands that are met on average, if so few episodes differ as much as these.

    (The mean of n normal returns is, on average, sqrt(2 / pi) of its standard error off.)
    """
    sweep, n_episodes = read_sweep(content["trained"]["range"]), content["episodes"][0]
    if n_episodes < 2 or sweep.span == 0:
        return float("nan")  # one episode does not say how much they differ
    standard_errors = sweep.std_returns / np.sqrt(n_episodes - 1)  # the sample's deviation is too small by sqrt(1 - 1 / n)
    return float(np.sqrt(2 / np.pi) * standard_errors.mean() / sweep.span)


def between_percentiles(groups: Groups) -> str:
    """RADT's protocol: mean absolute error in return units, and as a share of the range of commands."""
    rows = []
    for key, contents in groups.items():
        cells = _first_cells(key, contents)
        for kind in ("trained", "calibrated"):
            known = [content for content in contents if kind in content]
            errors = [float(np.abs(s.mean_returns - s.commands).mean()) for s in sweeps(known, kind, "percentiles")]
            spans = [np.ptp(content["command_range"]) for content in known]
            cells.append(median_and_seeds(errors, number))
            cells.append(median_and_seeds([e / span for e, span in zip(errors, spans, strict=True) if span > 0], percent))
        rows.append(cells)
    header = ["Error", "Of the range", "Error, calibrated", "Of the range, calibrated"]
    return table([*FIRST, *header], rows)


def errors_by_band(content: Content) -> tuple[float, float]:
    """Mean distance of commanded and mean return, as a share of the range: commands inside of the hidden band, and outside."""
    sweep, (low, high) = read_sweep(content["trained"]["range"]), content["band"]
    errors = np.abs(sweep.mean_returns - sweep.commands) / sweep.span
    slack = 1e-4 * sweep.span  # the file has six digits
    is_inside = (sweep.commands >= low - slack) & (sweep.commands <= high + slack)
    return float(errors[is_inside].mean()), float(errors[~is_inside].mean())


def hidden_returns(groups: Groups) -> str:
    """Errors inside and outside of the band that was hidden."""
    rows = []
    for key, contents in groups.items():
        inside, outside = zip(*map(errors_by_band, contents), strict=True)
        columns = [median_and_seeds(errors, percent) for errors in (inside, outside)]
        rows.append([*_first_cells(key, contents), *columns])
    return table([*FIRST, "Error in the hidden band", "Error outside"], rows)


def missed_targets(groups: Groups) -> list[str]:
    """Targets that the median of GoGePo's seeds misses, each in words."""
    found = []
    for env, target in TARGETS.items():
        contents = groups.get((env, "gogepo"), [])
        for kind, name, wanted in (
            ("trained", "r2", target.r2),
            ("trained", "mean_error", target.error),
            ("calibrated", "mean_error", target.calibrated_error),
        ):
            measured = [getattr(sweep, name) for sweep in sweeps(contents, kind)]
            if wanted is None or not measured:
                continue
            median = float(np.median(measured))
            if (median < wanted) if name == "r2" else (median > wanted):
                shown = f"R2 {median:.3f}, target {wanted:g}" if name == "r2" else f"error {median:.1%}, target {wanted:.0%}"
                note = "" if len(measured) >= N_SEEDS else f" ({len(measured)} of {N_SEEDS} seeds)"
                found.append(f"{env}, {'as trained' if kind == 'trained' else kind}: {shown}{note}")
    return found


def unmet_commands(groups: Groups) -> str:
    """Commands that miss by more than a tenth of the range, as trained: though some command earns such returns, and because
    none does."""
    rows = []
    for (env, algo), contents in groups.items():
        for content, sweep in zip(contents, sweeps(contents, "trained"), strict=True):
            parts = [~sweep.is_met & ~sweep.is_earned_by_none, sweep.is_earned_by_none]
            if any(map(np.any, parts)):
                rows.append([env, f"`{algo}`", content["seed"], *(_span_of(sweep.commands[part]) for part in parts)])
    return table(["Env", "Algorithm", "Seed", "Not met, though some command earns it", "Earned by no command"], rows)


def _span_of(commands: np.ndarray) -> str:
    """How many, the lowest and the highest."""
    if not len(commands):
        return ""
    low, high = number(commands.min()), number(commands.max())
    return f"{len(commands)}: {low} to {high}" if len(commands) > 1 else f"1: {low}"


def missing(groups: Groups, hidden: Groups) -> list[str]:
    """Cells of the benchmark that are not there, by name."""
    wanted = {PLAIN: (ALGOS, groups), HIDDEN: (("gogepo", "udrlpg"), hidden)}
    lines = []
    for track, (algos, known) in wanted.items():
        for algo in algos:
            gaps = []
            for env in BUDGETS:
                if not can_run(algo, env):
                    continue
                seeds = {*range(N_SEEDS)} - {content["seed"] for content in known.get((env, algo), [])}
                if seeds:
                    every = len(seeds) == N_SEEDS
                    gaps.append(env if every else f"{env} ({', '.join(map(str, sorted(seeds)))})")
            if gaps:
                lines.append(f"`{algo}`{', hidden band' if track == HIDDEN else ''}: {', '.join(gaps)}")
    return lines
