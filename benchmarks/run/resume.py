"""Resume points: what a cell goes on from after it was stopped.

GoGePo, UDRLPG and UDRL go on as if nothing had happened. SB3's and sb3-contrib's algorithms go on with their networks,
optimizers, counters, replay buffer and the statistics of a VecNormalize, but their libraries do not save the state of
the env and of the random generators: they begin a new episode, with new random numbers.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from sb3_contrib import ARS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.run.layout import read_json, write_json
from benchmarks.run.recording import CurveCallback
from sb3_gogepo.saving.checkpoints import BUFFER_FILE, MODEL_FILE, latest_checkpoint, remove_leftovers, write_checkpoint

STATE_FILE = "state.json"
#: share of the time that writing resume points may take
CHECKPOINT_SHARE = 0.05


class ResumePoint(NamedTuple):
    """``state`` is that of a :class:`~benchmarks.run.recording.Record`, with ``num_timesteps``."""

    model_file: Path
    state: dict[str, Any]


def find_resume_point(folder: Path) -> ResumePoint | None:
    """The newest one in a cell's folder of them, if there is one."""
    checkpoint = latest_checkpoint(folder)
    return None if checkpoint is None else ResumePoint(checkpoint / MODEL_FILE, read_json(checkpoint / STATE_FILE))


def prepare_loaded(model: BaseAlgorithm) -> None:
    """Set what SB3's ``load`` leaves as at the start of a run: the random numbers, and the weights that ARS goes on from."""
    assert model.seed is not None
    seed = np.random.SeedSequence([model.seed, model.num_timesteps]).generate_state(1)[0] >> 1
    model.set_random_seed(int(seed))  # with the run's own seed, its first episodes would come again
    if isinstance(model, ARS):
        model.weights = th.nn.utils.parameters_to_vector(model.policy.parameters()).detach()  # type: ignore[assignment]


class ResumePointCallback(BaseCallback):
    """Saves model, buffer and record where an iteration begins, and keeps the newest of these resume points.

    :param folder: of the cell's resume points.
    :param env_id: names the folder in which RL Zoo looks for the statistics of a VecNormalize.
    :param every_seconds: at least that long between two of them, and longer where saving is slow.
    """

    def __init__(self, folder: Path, env_id: str, curve: CurveCallback, every_seconds: float) -> None:
        super().__init__()
        self.folder, self.env_id, self.curve, self.every_seconds = folder, env_id, curve, every_seconds

    def _on_training_start(self) -> None:
        remove_leftovers(self.folder)
        self.next_save = time.monotonic() + self.every_seconds

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if time.monotonic() < self.next_save:
            return
        started = time.monotonic()
        with self.curve.record.clock.paused():
            self.curve.collect_episodes()
            write_checkpoint(self.folder, self.model.num_timesteps, keep_last=1, write=self.write)
        took = time.monotonic() - started
        self.next_save = time.monotonic() + max(self.every_seconds, took / CHECKPOINT_SHARE)

    def write(self, folder: Path) -> None:
        """All files of a resume point, under the names that RL Zoo looks for, and flushed to the disk."""
        model: Any = self.model
        model.save(folder / MODEL_FILE)
        if hasattr(model, "save_replay_buffer"):
            model.save_replay_buffer(folder / BUFFER_FILE)
        if vec_normalize := model.get_vec_normalize_env():
            (folder / self.env_id).mkdir(parents=True)
            vec_normalize.save(str(folder / self.env_id / "vecnormalize.pkl"))
        state = self.curve.record.dump(self.curve.env_steps)
        write_json(folder / STATE_FILE, {"num_timesteps": model.num_timesteps, **state})
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
