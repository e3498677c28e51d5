"""Reading files that a stranger may have written: nothing in them is run, and memory is bounded by the file's size.

What is refused raises :class:`InvalidFileError`, and only that.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch as th

ZIP_START = b"PK\x03\x04"
NUMBER_TYPES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
#: All that ``torch.save`` writes for state dicts: dicts, and tensors over storages of the usual number types.
TENSOR_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in NUMBER_TYPES),
}


class InvalidFileError(ValueError):
    """A file is damaged, was not written by this package, holds what would not work, or needs ``trust=True``."""


@contextmanager
def refusing(complaint: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an InvalidFileError: wrong values lead to a dozen types of errors.

    :param complaint: what the message says before the error's own text; it names the file.
    :raises InvalidFileError: in place of any other exception.
    """
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split()) or repr(error)
        raise InvalidFileError(f"{complaint}: {text[:400]}") from error


def read_zip_entries(content: bytes, name: str) -> dict[str, bytes]:
    """All entries of a zip; ``zipfile`` compares their checksums.

    Entries must be stored, not compressed, as SB3 and torch write them: then no zip holds more than its own size.

    :param name: what to call the file in errors.
    :raises InvalidFileError: if it is no such zip, or damaged.
    """
    with refusing(f"{name} is not a complete zip file ({len(content)} bytes)"):
        if not content.startswith(ZIP_START):  # Python finds a zip behind other bytes, torch reads these bytes
            raise ValueError("it begins with something else")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            if len({info.filename.casefold() for info in infos}) < len(infos):  # torch finds entries whatever their case
                raise ValueError("it holds two entries of the same name")
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise ValueError("it holds a compressed entry, and models have none")
            if sum(info.file_size for info in infos) > len(content):
                raise ValueError("it claims to hold more than its own size")
            return {info.filename: archive.read(info) for info in infos}


def load_tensors(content: bytes, name: str, device: th.device | str = "cpu") -> Any:
    """What ``torch.save`` wrote of dicts, lists, plain values and dense tensors of finite numbers.

    ``torch.load(weights_only=True)`` runs nothing, but would also make sparse tensors, quantized tensors and byte arrays of
    any size. Here the pickle may name nothing but :data:`TENSOR_GLOBALS`.

    :param name: what to call the file in errors.
    :raises InvalidFileError: if it is damaged or holds anything else.
    """
    entries = read_zip_entries(content, name)
    with refusing(f"{name} cannot be read"):
        pickles = [entry for key, entry in entries.items() if key.casefold().endswith("data.pkl")]
        for pickled in pickles:
            for opcode, argument, _ in pickletools.genops(pickled):  # lists the opcodes, and runs none
                if opcode.name == "GLOBAL" and argument not in TENSOR_GLOBALS:  # torch knows no other opcode that names
                    raise ValueError(f"it is no dict of plain tensors, it names {str(argument)[:80]}")
        loaded = th.load(io.BytesIO(content), map_location=device, weights_only=True)
        _check_plain(loaded, sum(map(len, pickles)))
    return loaded


def _check_plain(loaded: Any, max_items: int) -> None:
    """Raise unless this is a tree of dicts, lists, tuples, plain values and contiguous tensors of finite numbers.

    :param max_items: how large it may be. The same container may appear twice, but a pickle needs a byte for each item: a
        few hundred bytes of lists inside lists could unfold to more than any memory.
    """
    waiting, n_items = [loaded], 1
    while waiting:
        item = waiting.pop()
        if isinstance(item, th.Tensor):
            # torch has compared size and storage; only strides of 0 or overlapping rows make much of little
            if not item.is_contiguous():
                raise ValueError(f"a tensor of shape {tuple(item.shape)} is not all there")
            if item.is_floating_point() and not bool(th.isfinite(item).all()):
                raise ValueError("it holds numbers that are not finite")
        elif isinstance(item, (dict, list, tuple)):
            if isinstance(item, OrderedDict):
                vars(item).clear()  # a pickle may put anything in the place of its methods
            parts = item.values() if isinstance(item, dict) else item
            n_items += len(parts)
            if n_items > max_items:
                raise ValueError("it unfolds to more than it holds")
            waiting.extend(parts)
        elif not (item is None or isinstance(item, (str, int, float))):
            raise ValueError(f"it holds a {type(item).__name__}")
