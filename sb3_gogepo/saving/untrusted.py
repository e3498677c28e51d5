"""Reading files that a stranger may have written: nothing in them is run, and memory is bounded by the file's size.

What is refused raises :class:`InvalidFileError`, and only that.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch as th

#: Entries a zip may have. A model has less than ten; ``torch.save`` makes one a tensor.
MAX_ENTRIES = 100_000
ENTRY_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*")
NUMBER_TYPES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
#: All that ``torch.save`` writes for state dicts: dicts, and tensors over storages of the usual number types.
TENSOR_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in NUMBER_TYPES),
}
ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")  # the second: no entries, only the directory's end
GLOBAL_OPCODES = ("GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")


class InvalidFileError(ValueError):
    """A file is damaged, was not written by this package, holds what would not work, or needs ``trust=True``."""


def read_zip_entries(content: bytes, name: str) -> dict[str, bytes]:
    """All entries of a zip, whose checksums are right.

    Entries must be stored, not compressed, as SB3 and torch write them: then no zip holds more than its own size.

    :param name: what to call the file in errors.
    """
    try:
        if not content.startswith(ZIP_STARTS):  # Python finds a zip behind other bytes, torch reads these bytes
            raise zipfile.BadZipFile("it begins with something else")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            _check_entries(infos, len(content), name)
            broken = archive.testzip()
            if broken is not None:
                raise InvalidFileError(f"{name} is damaged: entry '{broken}' fails its checksum")
            return {info.filename: archive.read(info) for info in infos}
    except InvalidFileError:
        raise
    except zipfile.BadZipFile as error:
        raise InvalidFileError(f"{name} is not a complete zip file ({len(content)} bytes): {error}") from error
    except Exception as error:  # zipfile raises half a dozen types for damaged files
        raise InvalidFileError(f"{name} is not a readable zip file ({len(content)} bytes): {first_line(error)}") from error


def _check_entries(infos: list[zipfile.ZipInfo], n_bytes: int, name: str) -> None:
    names = {info.filename.casefold() for info in infos}  # torch's reader finds entries whatever their case
    if len(infos) > MAX_ENTRIES or len(names) < len(infos):
        raise InvalidFileError(f"{name} is no model: it holds {len(infos)} entries, some of the same name or too many")
    for info in infos:
        if not ENTRY_NAME.fullmatch(info.filename) or ".." in info.filename:
            raise InvalidFileError(f"{name} is no model: it holds an entry of the name {info.filename[:80]!r}")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
            raise InvalidFileError(f"{name} holds a compressed or encrypted entry, '{info.filename}': models have none")
    if sum(info.file_size for info in infos) > n_bytes:
        raise InvalidFileError(f"{name} claims to hold more than its own {n_bytes} bytes")


def load_tensors(content: bytes, name: str, device: th.device | str = "cpu") -> Any:
    """What ``torch.save`` wrote of dicts, lists, plain values and dense tensors.

    ``torch.load(weights_only=True)`` would also make sparse, quantized and huge expanded tensors and byte arrays of any
    size; here the pickle may name nothing but :data:`TENSOR_GLOBALS`, and each tensor must have all its numbers in the file.

    :param name: what to call the file in errors.
    """
    entries = read_zip_entries(content, name)
    pickles = [entry for entry in entries if entry.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1:
        raise InvalidFileError(f"{name} cannot be read: torch.save did not write it")
    try:
        for named in _named_globals(entries[pickles[0]]):
            if named not in TENSOR_GLOBALS:
                raise InvalidFileError(f"{name} cannot be read: it is no dict of plain tensors, it names {named[:80]}")
        loaded = th.load(io.BytesIO(content), map_location=device, weights_only=True)
        _check_plain(loaded, name)
    except InvalidFileError:
        raise
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise InvalidFileError(f"{name} cannot be read: {first_line(error)}") from error
    return loaded


def _named_globals(pickled: bytes) -> Iterator[str]:
    """What a pickle would import. Nothing is imported or run here: the opcodes are only listed."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in GLOBAL_OPCODES:
            yield str(argument) if opcode.name == "GLOBAL" else opcode.name


def _check_plain(loaded: Any, name: str) -> None:
    """Raise unless this is a tree of dicts, lists, tuples, plain values and tensors that are all there.

    A container that appears twice is refused: a few hundred bytes of them unfold to more than any memory.
    """
    waiting, seen = [loaded], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, th.Tensor):
            is_dense = item.layout is th.strided and item.is_contiguous()
            if not is_dense or item.numel() * item.element_size() > item.untyped_storage().nbytes():
                raise InvalidFileError(f"{name} cannot be read: a tensor of shape {tuple(item.shape)} is not all there")
        elif isinstance(item, (dict, list, tuple)):
            # an optimizer's (0.9, 0.999), which the groups of its parameters share, is no harm
            is_leaf = isinstance(item, tuple) and len(item) <= 2 and all(isinstance(part, float) for part in item)
            if id(item) in seen and len(item) and not is_leaf:
                raise InvalidFileError(f"{name} cannot be read: it holds the same {type(item).__name__} twice")
            seen.add(id(item))
            if isinstance(item, OrderedDict):
                vars(item).clear()  # a pickle may put anything in the place of its methods
            if isinstance(item, dict) and not all(isinstance(key, (str, int)) for key in item):
                raise InvalidFileError(f"{name} cannot be read: it holds keys that are no text")
            waiting.extend(item.values() if isinstance(item, dict) else item)
        elif not (item is None or isinstance(item, (str, int, float))):
            raise InvalidFileError(f"{name} cannot be read: it holds a {type(item).__name__}")


def tensors_in(value: Any) -> Iterator[th.Tensor]:
    """All tensors inside nested dicts, lists and tuples; each container is visited once."""
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, th.Tensor):
            yield item
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, dict) else item)


def check_finite(value: Any, name: str) -> None:
    """Raise unless all numbers of all tensors inside nested containers are finite."""
    for tensor in tensors_in(value):
        if tensor.is_floating_point() and not bool(th.isfinite(tensor).all()):
            raise InvalidFileError(f"{name} holds numbers that are not finite")


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [repr(error)])[0]
