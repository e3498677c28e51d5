"""Regenerate every table and figure from the results in the repository: ``python -m benchmarks.report``.

Writes ``docs/benchmarks/<track>.md``, ``published.md`` and ``ablations.md``, which the page ``docs/benchmarks.md`` includes,
and the figures they show. The same results give the same tables, byte for byte.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.report import figures, tables
from benchmarks.report.data import ENVS, Groups, actors_of, on_one_machine, read_groups, with_runs
from benchmarks.report.published import write_published
from benchmarks.report.statistics import MIN_SEEDS, aggregate
from benchmarks.run.layout import RESULTS
from benchmarks.run.tracks import ABLATIONS, ablations, tracks

#: What stands before it in a track's file is the summary, with which the page opens.
DETAILS = "<!-- details -->\n"
NOTHING = "No cell of this part has finished yet.\n"
ACTOR = "its actor"
INTERVAL = f"mean over seeds [95 % bootstrap interval], of fewer than {MIN_SEEDS} seeds (lowest to highest)"
LINES = f"Lines: mean over seeds; bands: 95 % bootstrap interval, of 2 to {MIN_SEEDS - 1} seeds their range"
MACHINE = "kind of processor on which most algorithms ran on that env"


def write_track(groups: Groups, track: str, docs: Path) -> str:
    """Draw the figures of a track; returns the text with its tables."""
    labels = list(tracks()[track])
    everything = {env: {label: group for label, group in by.items() if label in labels} for env, by in groups.items()}
    strangers = [f"`{label}` on {env}" for env, by_label in groups.items() for label in by_label if label not in labels]
    groups = with_runs(everything)
    labels = [label for label in labels if any(label in by_label for by_label in everything.values())]
    if not groups:
        return NOTHING

    def figure(name: str, made: figures.Figure, title: str, more: str = "") -> str:
        path = f"figures/benchmarks/{track}_{name}.png"
        figures.save(made, docs / path)
        return f"![{title}]({path})\n\n*{title}{more}*\n"

    caption = (
        "Return against env steps",
        f". {LINES}. The legend has the numbers of seeds and env steps; a line ends where its runs end",
    )
    timed = on_one_machine(groups)
    main_envs = {env: by_label for env, by_label in groups.items() if "range" in ENVS.get(env, {})}
    other_envs = {env: by_label for env, by_label in groups.items() if env not in main_envs}
    drawn = [
        figure(name, figures.learning_curves(envs, labels, "timesteps"), *caption)
        for name, envs in (("steps", main_envs), ("steps_other_envs", other_envs))
        if envs
    ]
    parts = [
        drawn[0],
        f"**Return at the end**: evaluations in the last tenth of the steps, {INTERVAL}.\n",
        tables.final_returns({env: by for env, by in everything.items() if by}, labels),
        DETAILS,
        *drawn[1:],
    ]
    for label in labels:
        if actors := actors_of(groups, label):
            pairs = {env: {label: groups[env][label], ACTOR: actor} for env, actor in actors.items()}
            made = figures.learning_curves(pairs, [label, ACTOR], "timesteps")
            parts.append(
                figure(f"actor_of_{label}", made, f"The generator of `{label}`, and its state critic's actor", f". {LINES}")
            )
    lengths = {env: sorted(group.n_timesteps for group in by_label.values()) for env, by_label in groups.items()}
    until = {env: steps[0] for env, steps in lengths.items() if steps[0] < steps[-1]}
    if until:
        start = figures.learning_curves({env: groups[env] for env in until}, labels, "timesteps", until)
        text = "Return against env steps, up to where the shortest runs on an env end"
        parts.append(figure("first_steps", start, text, f". {LINES}"))
    parts += [
        figure(
            "wall_clock",
            figures.learning_curves(timed, labels, "train_seconds"),
            "Return against the wall clock of the training alone",
            f", without evaluations. Seeds are on one kind of processor an env. A seed that has ended keeps its last value. "
            f"{LINES}",
        ),
        figure(
            "cpu_time",
            figures.learning_curves(timed, labels, "train_cpu_seconds"),
            "Return against the CPU time of the training alone",
            ". Seeds are on one kind of processor an env. On a busy machine this says more than the wall clock. " + LINES,
        ),
        "**Time to reach a return**: until the first evaluation whose mean of 10 episodes is at least that. Shown is the "
        "median over all seeds, of an even number the upper one of the two in the middle. A seed that does not get there "
        f"counts as infinitely long. Minutes are those of the seeds that ran on the {MACHINE}.\n",
        tables.times_to_return(groups, labels),
    ]
    results = {"": aggregate(groups, labels), "_whole_runs": aggregate(groups, labels, whole_runs=True)}
    written: list[dict[str, int]] = []  # env steps of the results so far
    for suffix, result in results.items():
        if result is None or len(result.iqm) < 2 or result.steps in written:
            continue
        written.append(result.steps)
        at = ", ".join(f"{env} {tables.steps(n)}" for env, n in result.steps.items())
        missing = [f"`{label}`" for label in labels if label not in result.iqm]
        parts += [
            "**Several envs together**: interquartile mean (IQM) and mean (rliable, 95 % stratified bootstrap intervals) of "
            f"returns scaled by the ranges in `benchmarks/report/report.yml`, at equal env steps: {at}."
            + (f" Not run on all of them, or not for so long: {', '.join(missing)}." if missing else "")
            + " All seeds count, and all envs alike, however many seeds each has. Where these are few, the intervals are too "
            "narrow. The IQM leaves out the lowest "
            f"quarter of these runs, so an algorithm may fail on one env of {len(result.steps)} and still have a high one.\n",
            tables.several_envs(result),
            figure(
                f"iqm{suffix}",
                figures.several_envs(result),
                "Interquartile mean and mean over these envs, at equal env steps",
            ),
            figure(
                f"profiles{suffix}",
                figures.profiles(result, labels),
                "Performance profiles, and the probability of improvement, over these envs, at equal env steps",
                ". Left: the fraction of runs whose scaled return is higher; right: how often a run of the first algorithm is "
                "better than one of another on the same env, draws counting half. With 95 % stratified bootstrap intervals, "
                "as in rliable",
            ),
        ]
    parts += [
        f"**What a run costs**: medians over the seeds that ran on the {MACHINE}.\n",
        tables.costs(groups, labels),
    ]
    if others := tables.not_timed(groups):
        parts += ["Not in the figures and tables of time, because they ran on other kinds of processors:\n", others]
    if others := tables.left_out(everything):
        parts += ["**Left out** of all of the above, because they are unfinished or of other settings:\n", others]
    if strangers:
        parts += [f"Left out, because `benchmarks/run/algorithms.yml` does not list them: {', '.join(strangers)}.\n"]
    parts += ["**Where the numbers come from**\n", tables.provenance(groups)]
    return "\n".join(parts)


def write_ablations(groups: Groups, docs: Path) -> str:
    """Draw the figures of the ablations; returns the text with their tables."""
    parts = []
    for name, entry in ablations().items():
        variants = {label: variant["says"] for label, variant in entry["variants"].items()}
        names = {label: says.replace("`", "") for label, says in {**entry["bases"], **variants}.items()}
        everything = {env: {label: by[label] for label in names if label in by} for env, by in groups.items()}
        part = {
            env: by_label
            for env, by_label in with_runs(everything).items()
            if any(label in by_label for label in variants) and len(by_label) > 1
        }
        if not part:
            continue
        path = f"figures/benchmarks/ablation_{name}.png"
        figures.save(figures.ablation(part, names), docs / path)
        shown = [label for label in names if any(label in by_label for by_label in part.values())]
        listed = "".join(f"- `{label}`: {names[label]}\n" for label in shown)
        parts += [
            f"### {entry['question']}\n",
            f"{entry['finding']}\n",
            f"![{entry['question']}]({path})\n",
            listed,
            f"Return at the end, {INTERVAL}:\n",
            tables.final_returns(part, shown),
        ]
        if others := tables.left_out(everything):
            parts += ["Left out:\n", others]
    if not parts:
        return NOTHING
    return "\n".join([*parts, "### Where the numbers come from\n", tables.provenance(with_runs(groups))])


def main(arguments: list[str] | None = None) -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    if not options.results.is_dir():
        parser.error(f"--results must be a folder with results of benchmarks.run, got {options.results}")
    try:
        groups = {track: read_groups(options.results, track) for track in (*tracks(), ABLATIONS)}
    except ValueError as error:
        parser.error(str(error))
    folder = options.docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {track: write_track(groups[track], track, options.docs) for track in tracks()}
    texts["published"] = write_published(groups["paper"])
    texts[ABLATIONS] = write_ablations(groups[ABLATIONS], options.docs)
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        print(folder / f"{name}.md")


if __name__ == "__main__":
    main()
