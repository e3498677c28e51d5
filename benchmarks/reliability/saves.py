"""SIGKILL while a process saves all the time: can what lies there be loaded, and do the files belong together?"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from benchmarks.reliability.runs import ALGORITHMS, ARGUMENTS, make_env

MARK = 1e6  # above all returns


def make_model(algorithm: str) -> Any:
    """A model, with a buffer of some hundred kilobytes, so that a save takes a while."""
    model = ALGORITHMS[algorithm]("MlpPolicy", make_env(1), **ARGUMENTS[algorithm])
    if algorithm == "UDRL":
        model.learn(2000)
    elif algorithm != "ARS":
        for i in range(model.replay_buffer.buffer_size):
            model.replay_buffer.add(th.zeros(model.replay_buffer.n_weights), 0.0, float(i))
    return model


def mark_buffer(model: Any, number: int) -> None:
    """Add an entry with a return that tells this number to :func:`read_mark`."""
    if hasattr(model.replay_buffer, "policy_weights"):
        model.replay_buffer.add(model.replay_buffer.policy_weights[0], 0.0, MARK + number)
        return
    observations = np.zeros((1, *model.observation_space.shape), np.float32)
    actions = np.zeros((1, *model.action_space.shape), model.action_space.dtype)
    model.replay_buffer.add(observations, actions, np.array([MARK + number]))


def read_mark(model: Any) -> float:
    """The number last given to :func:`mark_buffer`: the newest return, or, in UDRL's sorted buffer, the highest."""
    return float(model.replay_buffer.stored_returns[-1]) - MARK


def save_for_ever(model: Any, folder: Path) -> None:
    """Overwrite the same files and make checkpoints; number them, so that a mixed pair is found."""
    number = 0
    while True:
        number += 1
        model.num_timesteps = number
        if hasattr(model, "replay_buffer"):
            mark_buffer(model, number)
            model.save_replay_buffer(folder / "buffer")
            model.save_checkpoint(folder / "checkpoints", keep_last=1)
        model.save(folder / "model")


def load_all(algorithm: str, folder: Path) -> str:
    """ "loaded", or what is wrong."""
    cls: Any = ALGORITHMS[algorithm]
    try:
        model = cls.load(folder / "model", device="cpu")
        if algorithm != "ARS":
            model.load_replay_buffer(folder / "buffer")
            checkpoint = cls.load_checkpoint(folder / "checkpoints", make_env(1), device="cpu")
            newest = read_mark(checkpoint)
            if newest != checkpoint.num_timesteps:
                return f"the model was saved at {checkpoint.num_timesteps}, its buffer at {newest}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[-80:]}"
    return "loaded"


def measure_saves(algorithm: str, n: int, seed: int) -> dict[str, Any]:
    """``n`` kills after random times."""
    rng, model = random.Random(f"{algorithm} {seed}"), make_model(algorithm)
    outcomes: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(n):
            existed = (folder / "model.zip").exists()
            pid = os.fork()
            if not pid:
                try:
                    np.random.seed()
                    save_for_ever(model, folder)
                finally:
                    os._exit(1)
            while not existed and not (folder / "model.zip").exists():
                time.sleep(0.01)  # the very first save may not have begun
            time.sleep(rng.uniform(0, 0.2))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            outcomes.append(load_all(algorithm, folder))
            if outcomes[-1] != "loaded":
                print(outcomes[-1], flush=True)
    return {"survived": outcomes.count("loaded"), "n": n, "failures": [one for one in outcomes if one != "loaded"]}
