"""Hypothesis strategies for model files that somebody made to do harm, or that a disk has damaged."""

from __future__ import annotations

import base64
import copy
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch as th
from hypothesis import strategies as st

BOMB = b"0" * 30_000_000
CLASSES = (("os", "system"), ("subprocess", "Popen"), ("builtins", "eval"), ("torch.nn.modules.linear", "Linear"))
CLASSES += (("stable_baselines3.common.logger", "CSVOutputFormat"), ("torch.nn.modules.nonsense", "A"))  # type: ignore[assignment]
TYPES = ("tuple", "deque", "ndarray", "Box", "Discrete", "ConstantSchedule", "LinearSchedule", "unsaved", "nonsense")


class Canary:
    """Unpickling it writes one letter to a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return eval, (f"(lambda file: (file.write('x'), file.close()))(open({self.path!r}, 'a'))",)


def read_entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_entries(entries: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression, compresslevel=1) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def torch_bytes(value: Any, **kwargs: Any) -> bytes:
    """What ``torch.save`` writes."""
    file = io.BytesIO()
    th.save(value, file, **kwargs)
    return file.getvalue()


def _flip(draw: Any, content: bytes, n_bits: int) -> bytes:
    flipped = bytearray(content)
    for _ in range(n_bits):
        place = draw(st.integers(0, 8 * len(flipped) - 1))
        flipped[place // 8] ^= 1 << place % 8
    return bytes(flipped)


@st.composite
def json_values(draw: Any, canary: Path) -> Any:
    """Something to stand where a setting was."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.none() | st.booleans() | st.text(max_size=20))
    if kind == 1:
        return draw(st.integers(-(10**12), 10**12) | st.sampled_from([10**400, -(10**400), 10**30, 2**63, -1, 0, 10**9]))
    if kind == 2:
        return draw(st.floats(allow_nan=True, allow_infinity=True))
    if kind == 3:
        return draw(st.lists(st.integers(-5, 10**7) | st.text(max_size=3), max_size=5))
    if kind == 4:
        return [draw(st.integers(1, 10**6))] * draw(st.integers(1, 20_000))
    if kind == 5:
        module, name = draw(st.sampled_from(CLASSES))
        return {"__type__": "class", "module": module, "name": name}
    if kind == 6:
        content = (
            st.none()
            | st.integers(-3, 10**10)
            | st.floats()
            | st.lists(st.integers(-3, 10**9), max_size=4)
            | st.text(max_size=9)
        )
        keys = [
            "items",
            "maxlen",
            "dtype",
            "values",
            "low",
            "high",
            "n",
            "start",
            "value",
            "end",
            "end_fraction",
            "description",
        ]
        return {"__type__": draw(st.sampled_from(TYPES)), **draw(st.dictionaries(st.sampled_from(keys), content, max_size=4))}
    if kind == 7:
        dtype = draw(st.sampled_from(["O", "(100000,100000)f8", "<f4", "U1000000", "f8,f8", "<i8", "V99999999", "M8[s]"]))
        return {"__type__": "ndarray", "dtype": dtype, "values": draw(st.lists(st.floats() | st.integers(), max_size=4))}
    return _pickled_setting(draw, canary)


def _pickled_setting(draw: Any, canary: Path) -> dict[str, str]:
    """What SB3 writes for a setting that JSON cannot express."""
    pickled = pickle.dumps(Canary(canary), protocol=draw(st.integers(0, 5)))
    return {":type:": "<class 'dict'>", ":serialized:": base64.b64encode(pickled).decode()}


def _replace_somewhere(draw: Any, value: Any, new: Any) -> Any:
    """A copy of nested dicts and lists in which one place, at any depth, holds something else."""
    value = copy.deepcopy(value)
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        place[key] = new
        return value


def _change_tensor(draw: Any, content: bytes) -> bytes:
    """One tensor of a state dict with another shape, dtype, layout or content."""
    state = th.load(io.BytesIO(content), weights_only=True)
    places: list[tuple[Any, Any]] = []
    waiting = [state]
    while waiting:
        item = waiting.pop()
        for key in list(item) if isinstance(item, dict) else range(len(item)):
            if isinstance(item[key], th.Tensor):
                places.append((item, key))
            elif isinstance(item[key], (dict, list)):
                waiting.append(item[key])
    if not places:
        return torch_bytes([1, 2])
    place, key = draw(st.sampled_from(places))
    tensor = place[key].detach()
    changes: list[Callable[[], Any]] = [
        lambda: tensor * float("nan"),
        lambda: tensor + float("inf"),
        lambda: tensor.unsqueeze(0),
        lambda: tensor.flatten()[:0],
        lambda: tensor.half(),
        lambda: tensor.to(th.complex64),
        lambda: tensor.long(),
        lambda: th.zeros(1).expand(draw(st.sampled_from([2, 10**6, 10**12]))),
        lambda: tensor.reshape(-1).to_sparse(),
        lambda: th.sparse_coo_tensor(th.zeros(1, 1, dtype=th.long), th.ones(1), (10**12,)),
        lambda: th.quantize_per_tensor(tensor.float(), 0.1, 0, th.qint8),
        lambda: draw(st.none() | st.text(max_size=5) | st.floats() | st.lists(st.integers(), max_size=3)),
        lambda: bytearray(10),
        lambda: tensor[..., None].transpose(0, -1),
    ]
    place[key] = draw(st.sampled_from(changes))()
    if draw(st.integers(0, 4)) == 0:
        del place[key]
    return torch_bytes(state)


def _false_sizes(draw: Any, content: bytes) -> bytes:
    """Central directory entries that claim other sizes, or that all point at the first entry."""
    changed = bytearray(content)
    starts = [i for i in range(len(changed) - 4) if changed[i : i + 4] == b"PK\x01\x02"]
    for start in starts:
        if draw(st.booleans()):
            size = draw(st.sampled_from([0, 1, 2**31, 2**32 - 2]))
            struct.pack_into("<LL", changed, start + 20, size, size)
        elif draw(st.booleans()):
            struct.pack_into("<L", changed, start + 42, 0)
    return bytes(changed)


@st.composite
def hostile_files(draw: Any, original: bytes, canary: Path) -> bytes:
    """A model file that was damaged, or made to do harm."""
    entries = read_entries(original)
    data = json.loads(entries["data"])
    members = sorted(entries)
    tensors = [name for name in members if name.endswith(".pth")]
    kind = draw(st.sampled_from(KINDS))
    if kind == "truncated":
        return original[: draw(st.integers(0, len(original) - 1))]
    if kind == "bytes in front":
        entries[draw(st.sampled_from(tensors))] = draw(st.binary(max_size=8)) + torch_bytes({"a": Canary(canary)})
        return draw(st.binary(max_size=8)) + write_entries(list(entries.items()))
    if kind == "bits":
        return _flip(draw, original, draw(st.integers(1, 8)))
    if kind == "bits, right checksums":
        name = draw(st.sampled_from([name for name in members if entries[name]]))
        entries[name] = _flip(draw, entries[name], draw(st.integers(1, 8)))
    elif kind == "bomb":
        name = draw(st.sampled_from([*members, "surplus.pth", "surplus"]))
        return write_entries([*((key, entries[key]) for key in members if key != name), (name, BOMB)], zipfile.ZIP_DEFLATED)
    elif kind == "sizes":
        return _false_sizes(draw, original)
    elif kind == "names":
        names = st.sampled_from(["../../x", "/etc/x", "a\\..\\b", "data", "policy.pth", "x" * 60_000, "a//b", "\x00", ""])
        extra = [(name, b"x") for name in draw(st.lists(names, min_size=1, max_size=3))]
        return write_entries([*entries.items(), *extra])
    elif kind == "tensors":
        name = draw(st.sampled_from(tensors))
        entries[name] = _change_tensor(draw, entries[name])
    elif kind == "huge":
        content = draw(
            st.sampled_from(
                [
                    b"[" * 100_000,
                    b'{"a":' * 100_000,
                    b'{"a": ' + b"9" * 1_000_000 + b"}",
                    json.dumps({**data, "a": [0] * 500_000}),
                ]
            )
        )
        entries["data"] = content.encode() if isinstance(content, str) else content
    elif kind == "canary in a member":
        payload = draw(
            st.sampled_from(
                [torch_bytes({"a": Canary(canary)}), torch_bytes({"a": Canary(canary)}, _use_new_zipfile_serialization=False)]
                + [pickle.dumps(Canary(canary), protocol=protocol) for protocol in range(6)]
            )
        )
        entries[draw(st.sampled_from([*members, "surplus.pth", "tensors.pth", "surplus.pkl"]))] = payload
    elif kind == "canary in a field":
        entries["data"] = json.dumps(_replace_somewhere(draw, data, _pickled_setting(draw, canary))).encode()
    else:  # settings
        for _ in range(draw(st.integers(1, 2))):
            data = _replace_somewhere(draw, data, draw(json_values(canary)))
        entries["data"] = json.dumps(data).encode()
    return write_entries(list(entries.items()))


KINDS = (
    *("truncated", "bytes in front", "bits", "bits, right checksums", "bits, right checksums", "bomb", "sizes", "names"),
    *("tensors", "tensors", "huge", "canary in a member", "canary in a member", "canary in a field", "canary in a field"),
    *("settings", "settings", "settings", "settings"),
)
