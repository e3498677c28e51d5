import json
import os
import stat
import zipfile
from collections import deque
from io import BytesIO

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_gogepo.saving import archive


def round_trip(value, trust=False):
    return archive.decode(json.loads(json.dumps(archive.encode(value))), trust)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**62 + 1,
        0.1,
        "text",
        [1, [2.5, None]],
        (1, "episode"),
        {"a": {"b": (1, 2)}},
        np.float64(0.1),
        np.int64(3),
        float("inf"),
        spaces.Discrete(3, start=2),
        spaces.Dict({"goal": spaces.Box(-1, 1, (2,), np.float32), "choice": spaces.Discrete(3)}),
        spaces.Box(np.array([-1.0, -np.inf]), np.array([0.1, np.inf]), dtype=np.float64),
        spaces.Box(np.array([[-1.0], [0.3]], np.float32), np.array([[0.1], [7.0]], np.float32)),
        th.nn.ReLU,
        th.optim.Adam,
    ],
    ids=str,
)
def test_round_trip(value):
    copy = round_trip(value)
    assert copy == value
    assert type(copy) is type(value.item() if isinstance(value, np.generic) else value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, bool])
def test_arrays(dtype):
    value = np.array([[0, 1], [1, 0]], dtype)
    copy = round_trip(value)
    assert copy.dtype == value.dtype
    assert np.array_equal(copy, value)


def test_float32_arrays_lose_nothing():
    value = np.random.default_rng(0).normal(size=100).astype(np.float32)
    assert np.array_equal(round_trip(value), value)


def test_deques_keep_their_length():
    copy = round_trip(deque([{"r": 1.5, "l": 3}], maxlen=7))
    assert copy == deque([{"r": 1.5, "l": 3}])
    assert copy.maxlen == 7


@pytest.mark.parametrize(
    "schedule",
    [ConstantSchedule(0.3), LinearSchedule(1.0, 0.1, 0.5), FloatSchedule(LinearSchedule(1.0, 0.0, 1.0)), FloatSchedule(0.2)],
)
def test_schedules(schedule):
    copy = FloatSchedule(round_trip(schedule))
    for progress in (1.0, 0.7, 0.2, 0.0):
        assert copy(progress) == schedule(progress)


def local_class():
    class Local:
        pass

    return Local


@pytest.mark.parametrize(
    "value",
    [lambda: 1, object(), {1: 2}, {"__type__": "class"}, {":serialized:": ""}, local_class(), np.array([object()]), b"ab"],
)
def test_what_json_cannot_express_is_refused(value):
    with pytest.raises(TypeError):
        archive.encode(value)


def test_unsaved_values_warn_and_are_marked():
    with pytest.warns(UserWarning, match="schedule was not saved"):
        encoded = archive.encode_settings({"schedule": lambda progress: progress, "n": 3})
    settings = archive.decode_settings(json.loads(json.dumps(encoded)), trust=False, source="x")
    assert settings["n"] == 3
    assert isinstance(settings["schedule"], archive.UnsavedValue)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "PathLike"),
        ("subprocess", "Popen"),
        ("builtins", "dict"),
        ("stable_baselines3x", "A"),
        ("torch", "Tensor"),
        ("tests.toy_envs", "Square"),
        # reachable from a trusted module, but not one of its own
        ("stable_baselines3.common.save_util", "zipfile.ZipFile"),
        ("sb3_gogepo.saving.atomic_files", "tempfile.TemporaryDirectory"),
        ("stable_baselines3.common.vec_env.subproc_vec_env", "mp.Process"),
    ],
)
def test_foreign_classes_need_trust(module, name):
    with pytest.raises(ValueError, match=r"trust=True"):
        archive.decode({"__type__": "class", "module": module, "name": name})


def test_trust_imports_foreign_classes():
    assert archive.decode({"__type__": "class", "module": "fractions", "name": "Fraction"}, trust=True).__name__ == "Fraction"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "print"),
        ("stable_baselines3.common.save_util", "os.system"),
        ("builtins", "__name__"),
    ],
)
def test_functions_are_refused(module, name):
    with pytest.raises(ValueError, match=r"is not a class|trust=True"):
        archive.decode({"__type__": "class", "module": module, "name": name})


@pytest.mark.parametrize(
    "entry",
    [
        {"__type__": "nonsense"},
        {"__type__": ["class"]},
        {"__type__": "Box", "low": 1, "high": 2},
        {"__type__": "Box"},
        {"__type__": "Discrete", "n": -1},
        {"__type__": "Discrete", "n": 2, "surplus": 1},
        {"__type__": "tuple", "items": 3},
        {"__type__": "ndarray", "dtype": "nonsense", "values": []},
        {"__type__": "class", "module": "torch.nn.modules.nonsense", "name": "A"},
        {"__type__": "class", "module": "torch.nn.modules.linear", "name": "Nonsense"},
        {"__type__": "class", "module": 3, "name": "A"},
        {"__type__": "class"},
    ],
    ids=str,
)
def test_malformed_entries_are_named(entry):
    with pytest.raises(ValueError, match="cannot load 'thing' from x: "):
        archive.decode_settings({"thing": entry}, trust=False, source="x")


def test_tensors_round_trip(tmp_path):
    archive.write_tensors(tmp_path / "new" / "file", {"a": th.arange(3), "b": "text"}, suffix=".pt")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.pt"]
    content = archive.read_tensors(tmp_path / "new" / "file", suffix=".pt")
    assert content["a"].tolist() == [0, 1, 2]
    assert content["b"] == "text"


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("truncate", [False, True])
def test_tensor_files_run_nothing(tmp_path, truncate):
    file = BytesIO()
    th.save({"a": Bomb(tmp_path / "ran")}, file)
    content = file.getvalue()[: 50 if truncate else None]
    with pytest.raises(ValueError, match=r"the given file object (cannot be read|is not a complete)"):
        archive.read_tensors(BytesIO(content))
    assert not (tmp_path / "ran").exists()


def fail(*_args, **_kwargs):
    raise OSError("disk full")


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        archive.write_atomically(path, b"new", suffix=".bin")
    assert [file.name for file in tmp_path.iterdir()] == ["file.bin"]
    assert path.read_bytes() == b"old"


def test_written_files_have_the_usual_permissions(tmp_path):
    """Those of a file made with ``open``: others can read a model if they can read your other files."""
    (tmp_path / "plain").write_bytes(b"")
    archive.write_atomically(tmp_path / "atomic", b"", suffix="")
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_suffixes(tmp_path):
    for name, expected in [("a", "a.zip"), ("b.zip", "b.zip"), ("c.v1", "c.v1")]:
        archive.write_atomically(tmp_path / name, b"x", suffix=".zip")
        assert (tmp_path / expected).is_file()
        assert archive.read_bytes(tmp_path / name, ".zip") == b"x"


def write_zip(path, data, **entries):
    with zipfile.ZipFile(path, "w") as file:
        if data is not None:
            file.writestr("data", data)
        for name, content in entries.items():
            file.writestr(name, content)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "holds no 'data' entry"),
        ("{", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        ("[]", "cannot be read: it holds no settings"),
        ("3", "cannot be read: it holds no settings"),
        ("{}", "was saved by another algorithm, not by GoGePo"),
        ('{"algorithm": "UDRL"}', "was saved by UDRL, not by GoGePo"),
    ],
)
def test_zips_that_are_no_models(tmp_path, data, message):
    write_zip(tmp_path / "m.zip", data, other=b"")
    with pytest.raises(ValueError, match=message):
        archive.read_zip(tmp_path / "m.zip", "GoGePo")


def test_a_damaged_entry_is_found(tmp_path):
    write_zip(tmp_path / "m.zip", '{"algorithm": "GoGePo", "text": "untouched"}')
    content = (tmp_path / "m.zip").read_bytes()
    (tmp_path / "m.zip").write_bytes(content.replace(b"untouched", b"tampered!", 1))
    with pytest.raises(ValueError, match=r"m\.zip' is not a complete zip file .* Bad CRC-32 for file 'data'"):
        archive.read_zip(tmp_path / "m.zip", "GoGePo")


def test_missing_files_are_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        archive.read_zip(tmp_path / "nothing", "GoGePo")
