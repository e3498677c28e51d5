"""A full disk and a read-only folder: does saving raise, and is the old file intact?"""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.reliability_saves import make_model

NOBODY = 65534


@contextmanager
def file_size_limit(folder: Path) -> Iterator[None]:
    """No file may grow beyond half the size of the smallest one in ``folder``: as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    smallest = min(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    resource.setrlimit(resource.RLIMIT_FSIZE, (smallest // 2, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Fill the file system of ``folder``, a tmpfs of its own."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 512):
                pass
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder in which nobody may write, as a user whom that concerns."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    modes = [path.stat().st_mode for path in folders]
    for path in folders:
        path.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path, mode in zip(folders, modes, strict=True):
            path.chmod(mode)


@contextmanager
def scratch_folder(tmpfs: bool) -> Iterator[Path | None]:
    """A temporary folder that everybody may enter; on a small tmpfs of its own, or None where that is not permitted."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        if not tmpfs:
            yield Path(name)
            return
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", name], capture_output=True, check=False)
        if mounted.returncode != 0:
            yield None
            return
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)


def saves_of(model: Any) -> dict[str, Callable[[Path], Any]]:
    """Name -> a save into a folder."""
    saves: dict[str, Callable[[Path], Any]] = {
        "save": lambda folder: model.save(folder / "model.zip"),
        "policy.save": lambda folder: model.policy.save(folder / "policy.pt"),
    }
    if hasattr(model, "replay_buffer"):
        saves["save_replay_buffer"] = lambda folder: model.save_replay_buffer(folder / "buffer.pt")
        saves["save_checkpoint"] = lambda folder: model.save_checkpoint(folder / "checkpoints", keep_last=1)
    return saves


def contents(folder: Path) -> dict[str, bytes]:
    """Path -> bytes of all files in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def try_save(save: Callable[[Path], Any], folder: Path, obstacle: Callable[[Path], Any]) -> str:
    """ "intact": the save raised and left all files as they were, and nothing else; or "saved": it did not need the space."""
    save(folder)
    before, error = contents(folder), ""
    with obstacle(folder):
        try:
            save(folder)
        except Exception as raised:
            error = type(raised).__name__
    after = contents(folder)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed:
        return f"{error or 'no error'}, changed: {', '.join(changed)}"
    return "intact" if error else "saved"  # the same model again: the same bytes


def measure_disk(algorithm: str, n: int, seed: int) -> dict[str, Any]:
    """Each way to save against each obstacle; ``n`` and ``seed`` do not matter."""
    obstacles = {"full disk (tmpfs)": (small_disk, True), "full disk (RLIMIT_FSIZE)": (file_size_limit, False)}
    obstacles["read-only folder"] = (read_only, False)
    outcomes, skipped = {}, []
    for label, (obstacle, needs_tmpfs) in obstacles.items():
        for name, save in saves_of(make_model(algorithm)).items():
            with scratch_folder(needs_tmpfs) as folder:
                if folder is None:
                    skipped.append(label)
                else:
                    outcomes[f"{name}, {label}"] = try_save(save, folder, obstacle)
    survived = sum(outcome in ("intact", "saved") for outcome in outcomes.values())
    return {"survived": survived, "n": len(outcomes), "outcomes": outcomes, "skipped": sorted(set(skipped))}
