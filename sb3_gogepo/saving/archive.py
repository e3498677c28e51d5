"""Files without pickles: SB3's zip layout with JSON settings, written atomically, read without running any code.

SB3 stores what JSON cannot express as cloudpickle inside the zip's ``data`` entry, so loading such a file runs whatever
its author put there. Here spaces, schedules and classes are described in JSON instead.
"""

from __future__ import annotations

import base64
import io
import json
import os
import pkgutil
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.save_util import save_to_zip_file
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule, get_device

from sb3_gogepo.saving.atomic_files import PathOrFile, read_bytes, write_atomically
from sb3_gogepo.saving.untrusted import InvalidFileError, load_tensors, read_zip_entries, refusing

TAG = "__type__"
PICKLED = ":serialized:"  # SB3's mark of a cloudpickled entry
#: Classes of these modules may be named in a file without ``trust``: importing them runs nothing but installed libraries.
TRUSTED_MODULES = ("torch.nn.modules", "torch.optim", "stable_baselines3.", "sb3_gogepo.")


class UnsavedValue:
    """Stands for a value that could not be written to a file (an arbitrary callable, say)."""

    def __init__(self, description: str) -> None:
        self.description = description

    def __repr__(self) -> str:
        return f"UnsavedValue({self.description})"

    def __call__(self, *args: Any) -> float:
        """Schedules may be called while the model is set up; ``learn`` refuses to use an unsaved one."""
        return 0.0


def encode(value: Any) -> Any:
    """Express ``value`` in JSON.

    Known: JSON's own types, paths, tuples, deques, NumPy scalars and arrays, Box, Discrete and Dict spaces, SB3's
    schedules, importable classes, devices.

    :raises TypeError: for anything else.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) and key not in (TAG, PICKLED) for key in value):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, FloatSchedule):
        return encode(value.value_schedule)
    if isinstance(value, th.device):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, type) and "<locals>" not in value.__qualname__ and value.__module__ != "__main__":
        return {TAG: "class", "module": value.__module__, "name": value.__qualname__}
    # By name: rl_zoo3's SimpleLinearSchedule ("lin_<x>") is known without importing rl_zoo3
    encoder = _ENCODERS.get(type(value).__name__)
    if encoder is None:
        raise TypeError(f"cannot be written without a pickle: {value!r}")
    return encoder(value)


_ENCODERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "tuple": lambda value: {TAG: "tuple", "items": [encode(item) for item in value]},
    "deque": lambda value: {TAG: "deque", "items": [encode(item) for item in value], "maxlen": value.maxlen},
    "ndarray": lambda value: {TAG: "ndarray", "dtype": _number_dtype(value.dtype).str, "values": value.tolist()},
    "Box": lambda value: {TAG: "Box", "low": encode(value.low), "high": encode(value.high)},
    "Discrete": lambda value: {TAG: "Discrete", "n": int(value.n), "start": int(value.start)},
    "Dict": lambda value: {TAG: "Dict", "spaces": {key: encode(space) for key, space in value.spaces.items()}},
    "ConstantSchedule": lambda value: {TAG: "ConstantSchedule", "value": float(value.val)},
    "LinearSchedule": lambda value: _encode_linear_schedule(value.start, value.end, value.end_fraction),
    "SimpleLinearSchedule": lambda value: _encode_linear_schedule(value.initial_value, 0.0, 1.0),
    "UnsavedValue": lambda value: {TAG: "unsaved", "description": value.description},
}


def _encode_linear_schedule(start: float, end: float, end_fraction: float) -> dict[str, Any]:
    return {TAG: "LinearSchedule", "start": float(start), "end": float(end), "end_fraction": float(end_fraction)}


def _number_dtype(dtype: Any) -> np.dtype:
    """A dtype of plain numbers: no objects, and no sub-arrays or strings, whose size is not that of the values in a file.

    :raises TypeError: for any other.
    """
    if np.dtype(dtype).kind not in "biuf":
        raise TypeError(f"{str(dtype)[:80]!r} is no dtype of numbers")
    return np.dtype(dtype)


def decode(value: Any, trust: bool = False) -> Any:
    """The inverse of :func:`encode`.

    :param trust: also import classes from outside torch, SB3 and this package, and unpickle SB3's own entries.
    :raises ValueError: if the value needs trust, or is not understood.
    """
    if isinstance(value, list):
        return [decode(item, trust) for item in value]
    if not isinstance(value, dict):
        return value
    if PICKLED in value:
        if not trust:
            raise ValueError("it is pickled, and unpickling runs code: pass trust=True if you know who wrote the file")
        return _unpickle_trusted(value[PICKLED])
    if TAG not in value:
        return {key: decode(item, trust) for key, item in value.items()}
    kind, content = value[TAG], {key: decode(item, trust) for key, item in value.items() if key != TAG}
    if kind == "class":
        return _import_class(content["module"], content["name"], trust)
    if kind not in _DECODERS:
        raise ValueError(f"unknown entry {str(value)[:80]}")
    return _DECODERS[kind](**content)


_DECODERS: dict[str, Callable[..., Any]] = {
    "tuple": lambda items: tuple(items),
    "deque": lambda items, maxlen: deque(items, maxlen=maxlen),
    "ndarray": lambda dtype, values: np.array(values, dtype=_number_dtype(dtype)),
    "Box": lambda low, high: spaces.Box(low=low, high=high, dtype=low.dtype.type),
    "Discrete": spaces.Discrete,
    "Dict": lambda **content: spaces.Dict(content["spaces"]),
    "ConstantSchedule": lambda value: ConstantSchedule(value),
    "LinearSchedule": LinearSchedule,
    "unsaved": UnsavedValue,
}


def _unpickle_trusted(encoded: str) -> Any:
    """SB3's own pickled entries, of a file whose author the user said to know. This runs whatever is in them."""
    import cloudpickle  # not imported otherwise

    return cloudpickle.loads(base64.b64decode(encoded))


def _import_class(module: str, name: str, trust: bool) -> type:
    refusal = f"it names the class {module}.{name}, and importing it runs code: pass trust=True if you know who wrote the file"
    if not (trust or _is_trusted(module)):
        raise ValueError(refusal)
    result = pkgutil.resolve_name(f"{module}:{name}")
    if not isinstance(result, type):
        raise ValueError(f"{module}.{name} is not a class")
    if not (trust or _is_trusted(result.__module__)):  # a trusted module may have imported it from elsewhere
        raise ValueError(refusal)
    return result


def _is_trusted(module: str) -> bool:
    return f"{module}.".startswith(TRUSTED_MODULES)


def encode_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Encode each entry; one that cannot be written becomes an :class:`UnsavedValue`, with a warning that names it."""
    encoded = {}
    for name, value in settings.items():
        try:
            encoded[name] = encode(value)
        except TypeError:
            warnings.warn(
                f"{name} was not saved: {value!r} cannot be written without a pickle. Pass it again when loading.",
                stacklevel=4,
            )
            encoded[name] = encode(UnsavedValue(f"{name}={value!r}"))
    return encoded


def decode_settings(encoded: dict[str, Any], trust: bool, source: str) -> dict[str, Any]:
    """Decode each entry of a file's settings.

    :param source: what to call the file in errors.
    :raises InvalidFileError: naming the file, the entry and what is wrong with it.
    """
    settings = {}
    for name, value in encoded.items():
        with refusing(f"cannot load '{name[:80]}' from {source}"):
            settings[name] = decode(value, trust)
    return settings


def parse_settings(content: bytes | str, source: str) -> dict[str, Any]:
    """Settings as JSON's plain values, which :func:`decode_settings` takes.

    :raises InvalidFileError: if ``content`` is no JSON object, or nested too deeply.
    """
    with refusing(f"{source} cannot be read"):
        settings = json.loads(content)
        if not isinstance(settings, dict):
            raise ValueError("it holds no settings")
        return settings


def write_zip(path: PathOrFile, algorithm: str, settings: dict[str, Any], state_dicts: dict[str, Any]) -> None:
    """Write SB3's zip: ``data``, one ``<name>.pth`` a state dict, no other variables, version and system info.

    A path without suffix gets ``.zip``; missing folders are made. The file appears complete or not at all.
    """
    archive = io.BytesIO()
    save_to_zip_file(
        archive, data={"algorithm": algorithm, **encode_settings(settings)}, params=state_dicts, pytorch_variables={}
    )
    write_atomically(path, archive.getvalue(), suffix=".zip")


def read_zip(
    path: PathOrFile, algorithm: str, device: th.device | str = "auto"
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Read what :func:`write_zip` wrote.

    :return: settings, for :func:`decode_settings`, and state dicts.
    :raises InvalidFileError: if the file is damaged, or was saved by another algorithm.
    """
    name = name_of(path)
    entries = read_zip_entries(read_bytes(path, ".zip"), name)
    if "data" not in entries:
        raise InvalidFileError(f"{name} holds no 'data' entry: it was not saved by Stable-Baselines3 or sb3_gogepo")
    encoded = parse_settings(entries["data"], name)
    saved_by = str(encoded.pop("algorithm", "another algorithm"))
    if saved_by != algorithm:
        raise InvalidFileError(f"{name} was saved by {saved_by[:80]}, not by {algorithm}")
    state_dicts = {
        entry.removesuffix(".pth"): load_tensors(content, f"entry '{entry[:80]}' of {name}", get_device(device))
        for entry, content in entries.items()
        if entry.endswith(".pth")
    }
    state_dicts.pop("pytorch_variables", None)
    return encoded, state_dicts


def read_system_info(path: PathOrFile) -> str:
    """What the machine that saved a zip was running."""
    entries = read_zip_entries(read_bytes(path, ".zip"), name_of(path))
    return entries["system_info.txt"].decode(errors="replace") if "system_info.txt" in entries else "(not recorded)"


def write_tensors(path: PathOrFile, content: dict[str, Any], suffix: str) -> None:
    """``torch.save`` of tensors and JSON-encoded settings, atomically."""
    file = io.BytesIO()
    th.save(content, file)
    write_atomically(path, file.getvalue(), suffix=suffix)


def read_tensors(path: PathOrFile, device: th.device | str = "cpu", suffix: str = "") -> dict[str, Any]:
    """Read what :func:`write_tensors` wrote.

    :raises InvalidFileError: if the file is damaged or holds anything but tensors and plain values.
    """
    return load_tensors(read_bytes(path, suffix), name_of(path), device)


def name_of(path: PathOrFile) -> str:
    """What to call a file in errors."""
    return f"'{path}'" if isinstance(path, (str, os.PathLike)) else "the given file object"
