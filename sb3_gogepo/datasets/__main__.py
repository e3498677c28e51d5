"""Minari datasets of several qualities from one trained model.

``python -m sb3_gogepo.datasets model.zip --env Hopper-v5 --levels 0 0.5 1 --n-steps 100000 --dataset-id hopper/gogepo-v0``
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import torch as th

from sb3_gogepo import UDRLPG, GoGePo
from sb3_gogepo.datasets.assembly import LevelDataset
from sb3_gogepo.datasets.writing import write_datasets
from sb3_gogepo.errors import NonFiniteError

ALGORITHMS: dict[str, Any] = {"gogepo": GoGePo, "udrlpg": UDRLPG}


def main(arguments: list[str] | None = None) -> None:
    """Load the model, write the datasets and say what they hold."""
    parser = argparse.ArgumentParser(prog="python -m sb3_gogepo.datasets", description=__doc__)
    parser.add_argument("model", type=Path, help="zip file")
    parser.add_argument("--env", required=True, help="Gymnasium id")
    parser.add_argument("--dataset-id", required=True, help="of the dataset of all levels, e.g. hopper/gogepo-v0")
    parser.add_argument("--algo", choices=ALGORITHMS, default="gogepo", help="default: %(default)s")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument(
        "--levels", type=float, nargs="+", help="shares of the range of commands, 0 to 1 (default: 0 0.25 0.5 0.75 1)"
    )
    asked.add_argument("--returns", type=float, nargs="+", help="returns to ask for, in place of levels")
    parser.add_argument("--n-steps", type=float, default=100_000, help="env steps a level (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--n-eval-episodes", type=int, default=100, help="of the reference scores (default: %(default)s)")
    for name in ("author", "author-email", "code-permalink"):
        parser.add_argument(f"--{name}", help="for Minari's metadata")
    options = parser.parse_args(arguments)
    metadata = {name: getattr(options, name) for name in ("author", "author_email", "code_permalink")}
    warnings.filterwarnings("ignore", message=".*is out of date.*")  # Gymnasium on the papers' env versions
    th.set_num_threads(1)  # the networks are small: more threads only wait for each other
    try:
        written = write_datasets(
            ALGORITHMS[options.algo].load(options.model, device="cpu"),
            options.dataset_id,
            options.env,
            levels=options.levels,
            returns=options.returns,
            n_steps=int(options.n_steps),
            seed=options.seed,
            n_eval_episodes=options.n_eval_episodes,
            metadata={name: value for name, value in metadata.items() if value is not None},
            progress_bar=True,
        )
    except (ValueError, OSError, NonFiniteError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from here.", file=sys.stderr)
        raise SystemExit(130) from None
    print(table(written))
    if len(written) > 1:
        print(f"All levels: {options.dataset_id}")


def table(written: list[LevelDataset]) -> str:
    """What was asked for and what was achieved, one line a level."""
    lines = [f"{'asked':>10} {'achieved':>10} {'std':>8} {'episodes':>9} {'steps':>9}  dataset"]
    lines += [
        f"{level.command:10.1f} {level.achieved:10.1f} {level.achieved_std:8.1f} {level.n_episodes:9,} {level.n_steps:9,}"
        f"  {level.dataset_id}"
        for level in written
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
