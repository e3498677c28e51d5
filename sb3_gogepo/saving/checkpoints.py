"""Checkpoints: folders that hold a run at an episode boundary, complete or not at all, and the newest few of them.

A checkpoint is a folder with the files that RL Zoo looks for (``model.zip``, ``replay_buffer.pkl``) and ``run_state.pt``.
It is written under a hidden name, flushed to the disk and then renamed, so its files always belong together.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from sb3_gogepo.saving.atomic_files import sync_folder

CHECKPOINT_NAME = re.compile(r"checkpoint_\d+_\d+_steps")
MODEL_FILE, BUFFER_FILE, RUN_STATE_FILE = "model.zip", "replay_buffer.pkl", "run_state.pt"
#: what a process that was killed while writing or deleting leaves behind
HIDDEN_PREFIX = ".checkpoint_"


def list_checkpoints(folder: str | PathLike[str]) -> list[Path]:
    """The checkpoints in a folder, the oldest first; none if there is no such folder."""
    paths = Path(folder).iterdir() if Path(folder).is_dir() else ()
    found = [path for path in paths if CHECKPOINT_NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.split("_")[1]))


def latest_checkpoint(folder: str | PathLike[str]) -> Path | None:
    """The newest checkpoint in a folder; None if there is none."""
    return next(reversed(list_checkpoints(folder)), None)


def steps_of(checkpoint: Path) -> int:
    """The env steps a checkpoint's run had made."""
    return int(checkpoint.name.split("_")[2])


def write_checkpoint(folder: str | PathLike[str], num_timesteps: int, keep_last: int, write: Callable[[Path], None]) -> Path:
    """Make a new checkpoint and remove those before the last ``keep_last``.

    :param write: writes the files into the folder it is given.
    :return: the checkpoint's folder, ``checkpoint_<number>_<num_timesteps>_steps``.
    :raises OSError: if the folder cannot be written or the disk is full; the older checkpoints are intact then.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    existing = list_checkpoints(root)
    number = 1 + (int(existing[-1].name.split("_")[1]) if existing else 0)
    temporary = Path(tempfile.mkdtemp(dir=root, prefix=HIDDEN_PREFIX))
    try:
        temporary.chmod(root.stat().st_mode & 0o777)  # mkdtemp makes private folders
        write(temporary)
        sync_folder(temporary)
        checkpoint = temporary.rename(root / f"checkpoint_{number:06d}_{num_timesteps}_steps")
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(root)
    for old in existing[: len(existing) + 1 - keep_last]:
        shutil.rmtree(old.rename(root / f"{HIDDEN_PREFIX}{old.name}.old"))
    return checkpoint


def remove_leftovers(folder: str | PathLike[str]) -> None:
    """Remove what a killed process left half-written. Only while no other process writes there."""
    for leftover in Path(folder).glob(f"{HIDDEN_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
