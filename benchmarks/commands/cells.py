"""What is trained and measured: the envs' budgets, the settings of a cell, and where its one file lies."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.run.layout import Cell, read_json
from benchmarks.run.tracks import defaults_of, resolve

#: Cells as they are, and with a band of returns kept out of the buffer
PLAIN, HIDDEN = "commands", "commands_hidden"
#: env -> env steps
BUDGETS = {
    "Swimmer-v3": 300_000,
    "Hopper-v3": 1_000_000,
    "HalfCheetah-v3": 1_000_000,
    "Walker2d-v3": 1_000_000,
    "InvertedPendulum-v2": 100_000,
    "Pendulum-v1": 100_000,
    "MountainCarContinuous-v0": 100_000,
    "LunarLander-v3": 300_000,
}
ALGOS = ("gogepo", "udrlpg", "udrl", "gogepo-paper", "gogepo-critic")
#: Those that generate policies: they are calibrated, and asked for returns that were hidden from them
GENERATORS = ("gogepo", "udrlpg", "gogepo-paper", "gogepo-critic")
#: Whose finished cell of the same env and seed says which band is hidden
REFERENCE = "gogepo"
N_SEEDS = 5
#: The track of the comparison, whose algorithms are trained
COMPARISON = "paper"


def file_of(cell: Cell, results: Path) -> Path:
    """The cell's results."""
    return results / f"{cell.path}.json"


def can_run(algo: str, env: str) -> bool:
    """Is there all that the algo must know of the env?"""
    try:
        resolve(COMPARISON, algo, env)
    except ValueError:
        return False
    return True


def settings_of(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """What makes a cell the one it is.

    :raises ValueError: for an unknown algo, an env without a budget, or one whose range of returns the algo must know.
    """
    if cell.algo not in ALGOS:
        raise ValueError(f"--algos must be of {', '.join(ALGOS)}, got {cell.algo!r}")
    if cell.env not in BUDGETS and options.n_timesteps is None:
        raise ValueError(f"--envs must be of {', '.join(BUDGETS)}, or --n-timesteps given, got {cell.env!r}")
    if cell.track == HIDDEN and cell.algo not in GENERATORS:
        raise ValueError(f"--hidden is for {', '.join(GENERATORS)}, got {cell.algo!r}")
    algorithm = resolve(COMPARISON, cell.algo, cell.env)
    return dict(
        n_timesteps=options.n_timesteps or BUDGETS[cell.env],
        rl_zoo_algo=algorithm.algo,
        hyperparams=algorithm.hyperparams,
        defaults=defaults_of(algorithm.algo),
        episodes=list(options.episodes),
    )


def hidden_band(cell: Cell, results: Path) -> tuple[tuple[float, float], tuple[float, float]]:
    """The middle fifth of the range of returns, and this range, by the reference's finished cell.

    :raises ValueError: if that is not finished.
    """
    reference = file_of(Cell(PLAIN, REFERENCE, cell.env, cell.seed), results)
    known = read_json(reference)
    if not known:
        raise ValueError(
            f"the range of {cell.env} must be known to hide a part of it: first run {reference}, without --hidden"
        )
    low, high = known["command_range"]
    return (low + 0.4 * (high - low), low + 0.6 * (high - low)), (low, high)
