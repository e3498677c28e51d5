"""A full disk and a read-only folder: does saving raise, and is the old file intact?"""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch as th

from benchmarks.reliability.runs import make_env
from benchmarks.reliability.saves import make_model, mark_buffer, read_mark

NOBODY = 65534
OLD, NEW = 1, 2


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


class Save(NamedTuple):
    """A way to save into a folder, and to read back the number that :func:`mark` put into the model."""

    save: Callable[[Path], Any]
    read: Callable[[Path], float]


def mark(model: Any, number: int) -> None:
    """Put a number into the model's settings, its networks and its buffer."""
    model.num_timesteps = number
    with th.no_grad():
        next(model.policy.parameters()).fill_(number)
    if hasattr(model, "replay_buffer"):
        mark_buffer(model, number)


def saves_of(model: Any) -> dict[str, Save]:
    """Name -> a way to save."""
    cls: Any = type(model)

    def read_policy(folder: Path) -> float:
        policy = type(model.policy).load(str(folder / "policy.pt"), device="cpu")
        return float(next(policy.parameters()).detach().flatten()[0])

    def read_buffer(folder: Path) -> float:
        model.load_replay_buffer(folder / "buffer.pt")
        return read_mark(model)

    saves = {
        "save": Save(
            lambda folder: model.save(folder / "model.zip"),
            lambda folder: cls.load(folder / "model.zip", device="cpu").num_timesteps,
        ),
        "policy.save": Save(lambda folder: model.policy.save(str(folder / "policy.pt")), read_policy),
    }
    if hasattr(model, "replay_buffer"):
        saves["save_replay_buffer"] = Save(lambda folder: model.save_replay_buffer(folder / "buffer.pt"), read_buffer)
        saves["save_checkpoint"] = Save(
            lambda folder: model.save_checkpoint(folder / "checkpoints", keep_last=1),
            lambda folder: cls.load_checkpoint(folder / "checkpoints", make_env(1), device="cpu").num_timesteps,
        )
    return saves


def try_save(model: Any, way: Save, folder: Path, obstacle: Callable[[Path], Any]) -> str:
    """Save, change the model, save again against the obstacle, and load what lies there then."""
    mark(model, OLD)
    way.save(folder)
    before, error = sorted(folder.rglob("*")), ""
    mark(model, NEW)
    with obstacle(folder):
        try:
            way.save(folder)
        except Exception as raised:
            error = type(raised).__name__
    try:
        found = {OLD: "the old file", NEW: "the new file"}.get(round(way.read(folder)), "another file")
    except Exception as raised:
        found = f"cannot be loaded: {type(raised).__name__}"
    surplus = " and surplus files" if error and sorted(folder.rglob("*")) != before else ""
    return f"{error or 'no error'}, {found}{surplus}"


def survived(outcome: str) -> bool:
    """The new file without an error, or an error and a file, the old one or the new one, and nothing else."""
    error, found = outcome.split(", ", 1)
    return found == "the new file" if error == "no error" else found in ("the old file", "the new file")


def measure_disk(algorithm: str, n: int, seed: int) -> dict[str, Any]:
    """Each way to save against each obstacle; ``n`` and ``seed`` do not matter."""
    obstacles = {
        "full disk (tmpfs)": (small_disk, True),
        "full disk (RLIMIT_FSIZE)": (file_size_limit, False),
        "read-only folder": (read_only, False),
    }
    outcomes, skipped = {}, []
    names = list(saves_of(make_model(algorithm)))
    for label, (obstacle, needs_tmpfs) in obstacles.items():
        for name in names:
            model = make_model(algorithm)  # whose buffer holds no mark yet
            with scratch_folder(needs_tmpfs) as folder:
                if folder is None:
                    skipped.append(label)
                else:
                    outcomes[f"{name}, {label}"] = try_save(model, saves_of(model)[name], folder, obstacle)
    n_survived = sum(survived(outcome) for outcome in outcomes.values())
    return {"survived": n_survived, "n": len(outcomes), "outcomes": outcomes, "skipped": sorted(set(skipped))}
