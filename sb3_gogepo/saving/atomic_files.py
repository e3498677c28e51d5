"""Files that appear complete or not at all, also if the process is killed or the power fails while they are written."""

from __future__ import annotations

import io
import os
import pathlib
import stat
import tempfile

PathOrFile = str | os.PathLike[str] | io.BufferedIOBase | io.BytesIO


def write_atomically(path: PathOrFile, content: bytes, suffix: str) -> None:
    """Write to a temporary file in the same folder, flush it to the disk, then rename it onto ``path``.

    A file that is there already keeps its mode, and a link goes on pointing at it. A failed write leaves nothing behind.

    :param suffix: added to a path that has none; missing folders are made.
    :raises OSError: if the folder cannot be written, or the disk is full; an old file is intact then.
    """
    if not isinstance(path, (str, os.PathLike)):
        path.write(content)
        return
    target = pathlib.Path(path)
    if target.suffix == "":
        target = target.with_name(target.name + suffix)
    target = pathlib.Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.chmod(temporary, _mode_for(target))  # mkstemp makes private files
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Flush a folder's list of names to the disk, so that a rename survives a power failure (POSIX only)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mode_for(target: pathlib.Path) -> int:
    """The mode of the file that is there, or that of a file made with ``open``."""
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


def read_bytes(path: PathOrFile, *suffixes: str) -> bytes:
    """All bytes of an open binary file, or of a path.

    :param suffixes: tried in this order where there is no file of the path itself.
    :raises FileNotFoundError: if there is none of these files.
    """
    if not isinstance(path, (str, os.PathLike)):
        path.seek(0)
        return path.read()
    candidates = [pathlib.Path(f"{os.fspath(path)}{suffix}") for suffix in ("", *suffixes)]
    return next((file for file in candidates if file.is_file()), candidates[0]).read_bytes()
