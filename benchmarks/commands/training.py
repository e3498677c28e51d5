"""Train one cell, so that a process that was killed goes on, and never stores policies of hidden returns."""

from __future__ import annotations

import argparse
import datetime
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands.cells import COMPARISON
from benchmarks.run import manifest
from benchmarks.run.layout import MODEL, REPLAY_BUFFER, Cell, read_json, write_json
from benchmarks.run.tracks import differing
from sb3_gogepo.base.callbacks import ResumableCheckpointCallback
from sb3_gogepo.base.command_algorithm import CommandAlgorithm
from sb3_gogepo.rollouts.rollout import Episode
from sb3_gogepo.saving.checkpoints import latest_checkpoint
from sb3_gogepo.zoo import ALGORITHMS

#: Checkpoints of a training, evenly spaced
N_CHECKPOINTS = 20


class HidesBand(CommandAlgorithm):
    """Mixed into an algorithm: policies whose return falls into ``band`` are not stored, and so not learned from."""

    band: tuple[float, float]

    def store_episode(self, candidates: Any, index: int, episode: Episode, episode_return: float) -> None:
        """As the algorithm's, unless the return is hidden."""
        if not self.band[0] <= episode_return <= self.band[1]:
            super().store_episode(candidates, index, episode, episode_return)

    def _returns_to_ask_for(self) -> np.ndarray:
        returns = super()._returns_to_ask_for()
        return returns if len(returns) else np.array([self.worst_return, self.best_return])


def make_kind(rl_zoo_algo: str, band: tuple[float, float] | None) -> type[CommandAlgorithm]:
    """The algorithm's class; with ``band``, a subclass that hides it."""
    kind: Any = ALGORITHMS[rl_zoo_algo].algorithm
    return kind if band is None else type(kind.__name__, (HidesBand, kind), {"band": band})


def find_trained(
    cell: Cell, trained_by: dict[str, Any], options: argparse.Namespace
) -> tuple[CommandAlgorithm, list[dict[str, Any]]] | None:
    """What the comparison has trained here by the same settings, and what is known of its processes; None: nothing."""
    same = cell._replace(track=COMPARISON)
    known, work = read_json(options.results / same.path / "manifest.json"), options.work / same.path
    if known.get("status") != "finished" or differing(known, trained_by) or not (work / MODEL).exists():
        return None
    model = make_kind(trained_by["rl_zoo_algo"], None).load(work / MODEL, device=options.device)
    model.load_replay_buffer(work / REPLAY_BUFFER)
    return model, known["sessions"]


def train(
    cell: Cell, settings: dict[str, Any], work: Path, band: tuple[float, float] | None, options: argparse.Namespace
) -> tuple[CommandAlgorithm, list[dict[str, Any]]]:
    """The trained model with its buffer, and what is known of each process that worked on it.

    What the comparison has trained by the same settings is not trained again.

    :param work: the cell's folder for checkpoints, of this process alone.
    :raises ValueError: if it holds an unfinished run with other settings.
    """
    warnings.filterwarnings("ignore", message=".*is out of date.*")  # Gymnasium on the papers' env versions
    state, folder = work / "state.json", work / "checkpoints"
    known = read_json(state) if latest_checkpoint(folder) else {}
    trained_by = {name: value for name, value in settings.items() if name != "episodes"}
    if band is None and not known and (trained := find_trained(cell, trained_by, options)) is not None:
        return trained
    settings = {**settings, "band": None if band is None else list(band)}
    if known and (differ := differing(known, {**trained_by, "band": settings["band"]})):
        raise ValueError(f"{cell} is unfinished with other settings ({differ}): ask for those, or delete {work}")
    kind = make_kind(settings["rl_zoo_algo"], band)
    if known:
        model = kind.load_checkpoint(folder, env=cell.env, device=options.device)
    else:
        hyperparams = {name: value for name, value in settings["hyperparams"].items() if name != "n_envs"}
        model = kind(env=cell.env, seed=cell.seed, device=options.device, **hyperparams)
    session = dict(
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        from_timesteps=model.num_timesteps,
        commit=manifest.commit(),
        versions=manifest.versions(),
        hardware=manifest.hardware(options.device),
    )
    sessions = [*known.get("sessions", []), session]
    write_json(state, {**settings, "sessions": sessions})
    n_left = settings["n_timesteps"] - model.num_timesteps
    if n_left > 0:
        save = ResumableCheckpointCallback(max(settings["n_timesteps"] // N_CHECKPOINTS, 1), folder, keep_last=1)
        model.learn(n_left, callback=save, reset_num_timesteps=not known)
        if model.num_timesteps < settings["n_timesteps"]:
            raise RuntimeError(f"training stopped after {model.num_timesteps} of {settings['n_timesteps']} steps")
    return model, sessions
