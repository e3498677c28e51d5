"""The tables of these pages that come from code or results: ``python docs/tables.py`` writes them again.

A page names what it wants in a comment, and the table stands between it and ``<!-- end -->``:

- ``<!-- defaults: GoGePo -->``: defaults beside the paper's values, from the signatures and ``presets``;
- ``<!-- policy defaults: GoGePo -->``: the same of ``policy_kwargs``;
- ``<!-- tried`` and lines such as ``12: what it was``: rows of ``benchmarks/results/tried.csv``;
- ``<!-- critic -->``: what ``gogepo-critic`` and its actor earn, and how closely commands are met;
- ``<!-- results -->``: returns, time and commands met beside other algorithms, from the reports in ``docs/benchmarks``.
"""

import csv
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report.data import actors_of, read_groups, with_runs
from sb3_gogepo import UDRLPG, GoGePo, presets
from sb3_gogepo.gogepo import GoGePoPolicy
from sb3_gogepo.networks.policies import GeneratorPolicy

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
TRIED = RESULTS / "tried.csv"
TABLE = re.compile(r"(<!-- (defaults: |policy defaults: |tried\n|critic |results )(.*?)-->\n).*?(?=<!-- end -->)", re.DOTALL)
#: algorithm -> the paper's preset and its name, constructors of the algorithm and of its policy
ALGORITHMS: dict[str, tuple[dict[str, Any], str, list[Callable], list[Callable]]] = {
    "GoGePo": (presets.PAPER, "PAPER", [GoGePo], [GeneratorPolicy, GoGePoPolicy]),
    "UDRLPG": (presets.UDRLPG_PAPER, "UDRLPG_PAPER", [UDRLPG], [GeneratorPolicy]),
}

#: env -> return whose time is told
GOALS = {"Swimmer-v3": "300", "Hopper-v3": "1000", "InvertedPendulum-v2": "950", "MountainCarContinuous-v0": "90"}
BESIDE = {"gogepo": "GoGePo", "ars": "ARS", "td3": "TD3", "sac": "SAC"}


def show(value: Any) -> str:
    """A value as Python code: 5e-4 for 0.0005, 4_000 for 4000."""
    if type(value) is int:
        return f"{value:_}"
    if type(value) is float and 0 < abs(value) < 0.01:
        return re.sub(r"\.?0*e-0?", "e-", f"{value:e}")
    if isinstance(value, tuple) and all(type(size) is int for size in value):
        return repr(list(value))  # layers
    return repr(value).replace("'", '"')


def defaults(settings: dict[str, Any], preset: str, constructors: list[Callable]) -> str:
    """A row for each setting of the preset."""
    arguments: dict[str, Any] = {}
    for constructor in constructors:
        arguments.update({name: argument.default for name, argument in inspect.signature(constructor).parameters.items()})
    lines = [f"| Argument | Default | `{preset}` |", "|---|---|---|"]
    lines += [f"| `{name}` | `{show(arguments[name])}` | `{show(value)}` |" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def tried(wanted: str) -> str:
    """The rows that are asked for, each with a name that the page gives it."""
    with TRIED.open(encoding="utf-8", newline="") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    lines = ["| What was tried | Task | Env steps | Returns by seed | Row |", "|---|---|---|---|---|"]
    for line in wanted.strip().splitlines():
        number, name = line.split(": ", 1)
        row = rows[number]
        steps = f"{int(row['env_steps']):,}" if row["env_steps"] else ""
        returns = row["returns_by_seed"] + (f" ({row['note']})" if row["note"] else "")
        lines.append(f"| {name} | {row['env']} | {steps} | {returns} | {number} |")
    return "\n".join(lines) + "\n"


def cells(name: str) -> list[list[str]]:
    """Rows of all tables of a page in ``docs/benchmarks``, headers among them."""
    lines = (DOCS / "benchmarks" / name).read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("| ") or line.startswith("|  |")
    ]


def commands_met(label: str) -> dict[str, list[str]]:
    """env -> R2 and mean error, as trained and calibrated, in the median."""
    columns = ("R2", "Mean error", "R2, calibrated", "Mean error, calibrated")
    met, header = {}, [""]
    for row in cells("commands.md"):
        if row[0] == "Env":
            header = row
        elif "R2" in header and row[1] == f"`{label}`":
            entries = dict(zip(header, row, strict=True))
            met[row[0]] = [entries[column].split(" (")[0] for column in columns]
    return met


def results() -> str:
    """Three results: return at the end, CPU time to a return, how closely commands are met."""
    paper, met = cells("paper.md"), commands_met("gogepo")
    start = next(i for i, row in enumerate(paper) if row[:2] == ["", "Swimmer-v3"])
    header = paper[start]
    finals = {row[0].strip("`"): dict(zip(header, row, strict=True)) for row in paper[start + 1 :] if len(row) == len(header)}
    minutes = {(row[0], row[1], row[2].strip("`")): row[7] or row[4] for row in paper if len(row) == 8}
    lines = ["| | " + " | ".join(GOALS) + " |", "|---" * (len(GOALS) + 1) + "|"]
    for label, name in BESIDE.items():
        entries = []
        for env, goal in GOALS.items():
            final, time = finals[label][env], minutes.get((env, goal, label), "not run")
            reached = f"in {time} min" if time[:1].isdigit() else time
            entries.append(f"{final.split()[0]} after {final.split()[-2]}<br>{int(goal):,} {reached}")
        lines.append(f"| {name} | " + " | ".join(entries) + " |")
    lines.append(
        "| commands met by GoGePo (R2) | "
        + " | ".join(met[env][0] if env in met else "not measured yet" for env in GOALS)
        + " |"
    )
    return "\n".join(lines) + "\n"


def critic() -> str:
    """A row an env: mean returns of all seeds after some env steps and at the end, and the median R2 and error."""
    label = "gogepo-critic"
    groups = with_runs({env: {label: by[label]} for env, by in read_groups(RESULTS, "paper").items() if label in by})
    actors, met = actors_of(groups, label), commands_met(label)
    lines = ["| | Seeds | 100,000 | 300,000 | Last tenth of | Its actor | R2, mean error | Calibrated |", "|---" * 8 + "|"]
    for env, by_label in groups.items():
        group = by_label[label]
        means = [
            f"{np.mean([run.return_near(steps) for run in group.runs]):,.0f}" if steps < group.n_timesteps else ""
            for steps in (100_000, 300_000)
        ]
        final = f"{np.mean([run.final_return for run in group.runs]):,.0f}<br>{group.n_timesteps:,}"
        actor = f"{np.mean([run.final_return for run in actors[env].runs]):,.0f}" if env in actors else "not recorded"
        commands = [", ".join(met[env][:2]), ", ".join(met[env][2:])] if env in met else ["", ""]
        lines.append("| " + " | ".join([env, str(len(group.runs)), *means, final, actor, *commands]) + " |")
    return "\n".join(lines) + "\n"


def fill(page: str) -> str:
    """The page with its tables as code and results have them now."""

    def table(match: re.Match) -> str:
        start, kind, wanted = match[1], match[2].strip(), match[3].strip()
        if kind == "results":
            return start + results()
        if kind == "critic":
            return start + critic()
        if kind == "tried":
            return start + tried(wanted)
        preset, name, algorithm, policy = ALGORITHMS[wanted]
        if kind == "defaults:":
            return start + defaults({key: preset[key] for key in preset if key != "policy_kwargs"}, name, algorithm)
        return start + defaults(preset["policy_kwargs"], name, policy)

    return TABLE.sub(table, page)


if __name__ == "__main__":
    for path in [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]:
        page = path.read_text(encoding="utf-8")
        if fill(page) != page:
            path.write_text(fill(page), encoding="utf-8")
            print(f"{path}: written")
