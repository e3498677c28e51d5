"""What a cell and the runner have in common on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.run.layout import RESULTS, WORK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Track, length, hardware, and folders."""
    parser.add_argument(
        "--track", default="paper", help="rules for hyperparameters, see algorithms.yml (default: %(default)s)"
    )
    parser.add_argument("--n-timesteps", type=float, default=100_000, help="env steps (default: %(default)s)")
    parser.add_argument(
        "--eval-freq", type=float, help="env steps between evaluations (default: about n_timesteps / 100, >= 1000)"
    )
    parser.add_argument("--device", default="cpu", help="of torch (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch and BLAS, for each cell (default: %(default)s)")
    parser.add_argument("--checkpoint-seconds", type=float, default=300, help="between resume points (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="CSV and JSON files (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=WORK, help="models, checkpoints, logs (default: %(default)s)")


def check_arguments(options: argparse.Namespace) -> None:
    """Whole numbers of steps, and a value for what depends on another argument.

    :raises ValueError: naming the argument.
    """
    for name in ("n_timesteps", "eval_freq"):
        value = getattr(options, name)
        if value is not None and not (1 <= value < float("inf") and value == int(value)):
            raise ValueError(f"--{name.replace('_', '-')} must be a whole number above 0, got {value}")
    for name in ("threads", "checkpoint_seconds"):
        value = getattr(options, name)
        if not 0 < value < float("inf"):
            raise ValueError(f"--{name.replace('_', '-')} must be a finite number above 0, got {value}")
    n = options.n_timesteps = int(options.n_timesteps)
    options.eval_freq = int(options.eval_freq or n // max(1, min(100, n // 1000)))
    if n // options.eval_freq * options.eval_freq <= 0.9 * n:
        raise ValueError(f"--eval-freq must have an evaluation in the last tenth of {n:,} env steps, got {options.eval_freq}")
