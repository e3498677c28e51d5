"""Write the docs' tables and figures of how closely commands are met."""

from __future__ import annotations

from pathlib import Path

from benchmarks.commands import tables
from benchmarks.commands.cells import HIDDEN, PLAIN
from benchmarks.commands.figures import commanded_and_achieved, envs_without_bonus, fidelity
from benchmarks.report.data import read_groups
from benchmarks.report.figures import save

PAGE, FIGURES = Path("benchmarks") / "commands.md", Path("figures") / "benchmarks"
#: file -> what its picture shows
FIGURES_SAY = {
    "commands": "Achieved over commanded return of GoGePo, a line a seed",
    "commands_others": "Achieved over commanded return of the other algorithms, a line a seed",
    "commands_hidden": "Achieved over commanded return, with the hidden band shaded",
    "commands_fidelity": "Return of the best command over R2 of all commands, a dot a seed; SAC, TD3, DDPG and ARS take none",
}


def _bullets(lines: list[str], otherwise: str) -> str:
    return "\n".join(f"- {line}" for line in lines) + "\n" if lines else otherwise + "\n"


def _image(name: str, says: str) -> str:
    return f"![{says}]({(FIGURES / name).as_posix()}.png)\n"


def others(groups: tables.Groups) -> tuple[str, ...]:
    """The algorithms beside GoGePo."""
    return tuple(dict.fromkeys(algo for _, algo in groups if algo != "gogepo"))


def text(results: Path) -> str:
    """The generated part of the page, in Markdown; the page takes what it wants of it by the marks."""
    groups, hidden = tables.load(results, PLAIN), tables.load(results, HIDDEN)
    unknown = "Not measured yet.\n"
    own = {key: contents for key, contents in groups.items() if key[1] == "gogepo"}
    rest = {key: contents for key, contents in groups.items() if key[1] != "gogepo"}
    pictures = [_image(name, says) for name, says in FIGURES_SAY.items()]
    parts = [
        "<!-- range -->\n\n" + (f"{tables.over_the_range(own)}\n{pictures[0]}" if own else unknown),
        "<!-- others -->\n\n" + (f"{tables.over_the_range(rest)}\n{pictures[1]}" if rest else unknown),
        "<!-- fidelity -->\n\n" + (pictures[3] if envs_without_bonus(groups) else unknown),
        "<!-- missed -->\n\n" + _bullets(tables.missed_targets(groups), "None by what was measured so far."),
        "<!-- unmet -->\n\n" + (tables.unmet_commands(groups) if groups else unknown),
        "<!-- percentiles -->\n\n" + (tables.between_percentiles(groups) if groups else unknown),
        "<!-- hidden -->\n\n" + (f"{tables.hidden_returns(hidden)}\n{pictures[2]}" if hidden else unknown),
        "<!-- missing -->\n\n" + _bullets(tables.missing(groups, hidden), "No cell is missing."),
    ]
    return "\n".join(parts) + "\n<!-- end -->\n"


def write(results: Path, docs: Path) -> None:
    """``benchmarks/commands.md``, and the figures of what there is, below ``docs``.

    :raises ValueError: see :func:`benchmarks.commands.tables.load`.
    """
    page = docs / PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text(results), encoding="utf-8")
    groups, hidden = tables.load(results, PLAIN), tables.load(results, HIDDEN)
    sweeps: list[tuple[tables.Groups, tuple[str, ...]]] = [
        (groups, ("gogepo",)),
        (groups, others(groups)),
        (hidden, ("gogepo", "udrlpg")),
    ]
    made = [
        commanded_and_achieved(shown, algos) if any(algo in algos for _, algo in shown) else None for shown, algos in sweeps
    ]
    made.append(fidelity(groups, read_groups(results, "paper")) if envs_without_bonus(groups) else None)
    for name, figure in zip(FIGURES_SAY, made, strict=True):
        path = docs / FIGURES / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)
        else:
            save(figure, path)
