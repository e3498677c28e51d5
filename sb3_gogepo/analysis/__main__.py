"""Pictures of one trained model: ``python -m sb3_gogepo.analysis model.zip --env Swimmer-v3 --out report/``.

In the model's folder it looks for ``replay_buffer.pt`` (or RL Zoo's ``replay_buffer.pkl``), ``stages.pt`` of a
StageCallback and ``evaluations.npz`` of SB3's EvalCallback. What is missing is left out, and the page says so.
"""

from __future__ import annotations

import argparse
import sys
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sb3_gogepo import UDRL, UDRLPG, GoGePo
from sb3_gogepo.analysis.report import write_report
from sb3_gogepo.analysis.stages import load_stages

ALGORITHMS: dict[str, Any] = {"gogepo": GoGePo, "udrlpg": UDRLPG, "udrl": UDRL}


def find(given: Path | None, folder: Path, names: Sequence[str]) -> Path | None:
    """``given`` if there is such a path, else the first file in ``folder`` with one of the names, else None."""
    if given is not None:
        if not given.is_file():
            raise ValueError(f"there is no file '{given}'")
        return given
    return next((folder / name for name in names if (folder / name).is_file()), None)


def load_evaluations(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(n_evaluations,) env steps and (n_evaluations, n_eval_episodes) returns of SB3's ``evaluations.npz``.

    :raises ValueError: if the file holds something else.
    """
    try:
        with np.load(path) as content:
            timesteps, returns = content["timesteps"], content["results"]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(f"'{path}' holds no evaluations of SB3's EvalCallback: {error}") from error
    if not (returns.ndim == 2 and timesteps.shape == returns.shape[:1] and returns.size):
        raise ValueError(
            f"'{path}' must hold one row of results for each of its timesteps, got shapes {timesteps.shape} and "
            f"{returns.shape}"
        )
    return timesteps, returns


def main(arguments: list[str] | None = None) -> None:
    """Load the files and write the report."""
    parser = argparse.ArgumentParser(prog="python -m sb3_gogepo.analysis", description=__doc__)
    parser.add_argument("model", type=Path, help="zip file")
    parser.add_argument("--env", required=True, help="Gymnasium id")
    parser.add_argument("--algo", choices=ALGORITHMS, default="gogepo", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder (default: %(default)s)")
    parser.add_argument("--replay-buffer", type=Path, help="file")
    parser.add_argument("--stages", type=Path, help="file")
    parser.add_argument("--evaluations", type=Path, help="file")
    parser.add_argument("--n-commands", type=int, default=21, help="default: %(default)s")
    parser.add_argument("--n-eval-episodes", type=int, default=10, help="episodes a command (default: %(default)s)")
    parser.add_argument("--n-films", type=int, default=5, help="commands that are filmed (default: %(default)s)")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message=".*is out of date.*")  # Gymnasium on the papers' env versions
    th.set_num_threads(1)  # the networks are small: more threads only wait for each other
    try:
        model = ALGORITHMS[options.algo].load(options.model, env=options.env)
        folder = options.model.parent
        buffer = find(options.replay_buffer, folder, ("replay_buffer.pt", "replay_buffer.pkl"))
        stages = find(options.stages, folder, ("stages.pt",))
        evaluations = find(options.evaluations, folder, ("evaluations.npz",))
        if buffer is not None:
            model.load_replay_buffer(buffer)
        episodes = f"{options.n_commands} commands, {options.n_eval_episodes} episodes each"
        smaller = "--n-commands, --n-eval-episodes, --n-films"
        print(f"{episodes}, {options.n_films} films: this takes as long as the env does ({smaller})", file=sys.stderr)
        page = write_report(
            model,
            options.out,
            title=f"{options.algo} on {options.env}, {model.num_timesteps:,} env steps",
            stages=() if stages is None else load_stages(stages),
            evaluations=None if evaluations is None else load_evaluations(evaluations),
            n_commands=options.n_commands,
            n_eval_episodes=options.n_eval_episodes,
            n_films=options.n_films,
        )
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    print(page)


if __name__ == "__main__":
    main()
