"""What others have published, in one table with our runs; each row says whose it is, and no interval mixes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from benchmarks.report.data import Groups
from benchmarks.report.tables import final_return, number, steps, table

PUBLISHED: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "published.yml").read_text())
#: Ours that stand beside them
OURS = ("gogepo", "gogepo-critic", "udrlpg")
#: One table each; envs without their version, which each entry gives
TABLES = (
    ("Swimmer", "Hopper", "HalfCheetah", "Walker2d", "Ant", "InvertedPendulum"),
    ("Pendulum", "LunarLander", "LunarLanderContinuous", "MountainCarContinuous", "CartPole", "Acrobot"),
)


def write_published(groups: Groups) -> str:
    """Tables of our final returns and the published ones, then where these are from and what they are."""
    parts = [_table(groups, envs) for envs in TABLES]
    sources = [f"- [{known['source']}]({known['url']}): {known['terms']}.\n" for known in PUBLISHED]
    return "\n".join([*parts, "".join(sources)])


def _table(groups: Groups, envs: tuple[str, ...]) -> str:
    ours: dict[str, dict[str, str]] = {label: {} for label in OURS}
    for env_id, by_label in groups.items():
        name, _, version = env_id.rpartition("-")
        for label in OURS:
            if label in by_label and by_label[label].runs:
                ours[label][name] = f"{final_return(by_label[label])}, {version}"
    rows = [[f"`{label}`", "ours", *(entries.get(env, "") for env in envs)] for label, entries in ours.items()]
    for known in PUBLISHED:
        for algo, returns in known["returns"].items():
            entries = dict(_published_entry(env_id, *values) for env_id, values in returns.items())
            rows.append([algo, f"published: {known['source']}", *(entries.get(env, "") for env in envs)])
    return table(["", "", *envs], [row for row in rows if any(row[2:])])


def _published_entry(env_id: str, mean: float, spread: float | None, n_timesteps: int) -> tuple[str, str]:
    """The env's name, and what was published."""
    name, _, version = env_id.rpartition("-")
    shown = number(mean) if spread is None else f"{number(mean)} ± {number(spread)}"
    return name, f"{shown}<br>{steps(n_timesteps)} steps, {version}"
