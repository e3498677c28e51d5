"""Files a stranger may have written: canaries in every field and member, sizes, and one type of error."""

import base64
import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch as th

from benchmarks.reliability.hostile import is_harmless, measure_hostile
from benchmarks.reliability.hostile_files import Canary, read_entries, torch_bytes, write_entries
from sb3_gogepo import InvalidFileError
from sb3_gogepo.saving import archive, untrusted
from tests.helpers import rewrite_data


def test_the_canary_works(tmp_path):
    pickle.loads(pickle.dumps(Canary(tmp_path / "canary")))
    assert (tmp_path / "canary").read_text() == "x"


def test_canaries_in_every_field_are_not_run(saved, tmp_path):
    model, path = saved
    original, canary = path.read_bytes(), tmp_path / "canary"
    pickled = {":type:": "x", ":serialized:": base64.b64encode(pickle.dumps(Canary(canary))).decode()}
    fields = list(json.loads(read_entries(original)["data"]))
    assert len(fields) > 20
    for field in fields:
        path.write_bytes(original)
        rewrite_data(path, lambda data, field=field: data.update({field: pickled}))
        with pytest.raises(InvalidFileError):
            type(model).load(path)
    assert not canary.exists()


def test_canaries_in_every_member_are_not_run(saved, tmp_path):
    model, path = saved
    original, canary = path.read_bytes(), tmp_path / "canary"
    payloads = [pickle.dumps(Canary(canary), protocol=protocol) for protocol in range(6)]
    payloads += [torch_bytes(Canary(canary)), torch_bytes(Canary(canary), _use_new_zipfile_serialization=False)]
    n_refused = 0
    for member in [*read_entries(original), "surplus.pth", "surplus.pkl"]:
        for payload in payloads:
            entries = {**read_entries(original), member: payload}
            path.write_bytes(write_entries(list(entries.items())))
            try:
                type(model).load(path).predict(np.zeros(2, np.float32))
            except InvalidFileError:
                n_refused += 1
    assert n_refused >= len(payloads) * 5  # data, and all entries with tensors
    assert not canary.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_canaries_instead_of_other_files_are_not_run(protocol, saved, tmp_path):
    model, _ = saved
    canary, path = tmp_path / "canary", tmp_path / "file"
    path.write_bytes(pickle.dumps(Canary(canary), protocol=protocol))
    loads = [type(model).load, model.load_replay_buffer, model.load_run_state, type(model.policy).load, model.set_parameters]
    for load in loads:
        with pytest.raises(InvalidFileError):
            load(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(buffer_size=10**9), "asks for a buffer of 1000000000 entries"),
        (dict(learn="text"), "holds 'learn', which is no setting"),
        (dict(env="text"), "holds 'env', which is no setting"),
        (dict(batch_size="many"), "batch_size must be an integer >= 1, got 'many'"),
        (dict(learning_rate=float("nan")), "learning_rate must be a finite number"),
        (dict(num_timesteps="many"), "holds 'many' as num_timesteps"),
        (dict(best_return=float("inf")), "holds 'inf' as best_return"),
        (
            dict(learning_rate={"__type__": "class", "module": "torch.optim", "name": "Adam"}),
            "the class Adam as learning_rate",
        ),
        (
            dict(policy_class={"__type__": "class", "module": "torch.optim", "name": "Adam"}),
            "must be a policy class of GoGePo",
        ),
        (dict(x={"__type__": "ndarray", "dtype": "(1000,1000)f8", "values": [1]}), "is no dtype of numbers"),
        (dict(x={"__type__": "ndarray", "dtype": "U1000000", "values": [1]}), "is no dtype of numbers"),
        (dict(x={"__type__": "ndarray", "dtype": "O", "values": [1]}), "is no dtype of numbers"),
    ],
    ids=str,
)
def test_settings_that_would_do_harm(change, message, saved):
    model, path = saved
    rewrite_data(path, lambda data: data.update(change))
    with pytest.raises(InvalidFileError, match=message):
        type(model).load(path)


@pytest.mark.parametrize(
    "change",
    [
        dict(net_arch=[10**9, 10**9]),
        dict(net_arch=[1] * 100_000),
        dict(tile_size=10**9),
        dict(n_probing_states=10**12),
        dict(optimizer_class={"__type__": "class", "module": "stable_baselines3.common.logger", "name": "CSVOutputFormat"}),
        dict(activation_fn={"__type__": "class", "module": "torch.optim", "name": "Adam"}),
        dict(net_arch="ab"),
        dict(unknown=1),
    ],
    ids=lambda change: next(iter(change)),
)
def test_networks_that_would_do_harm(change, saved):
    model, path = saved
    rewrite_data(path, lambda data: data["policy_kwargs"].update(change))
    with pytest.raises(InvalidFileError, match=r"do not fit its settings|asks for policies of \d+ weights"):
        type(model).load(path)


@pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"algorithm":' * 100_000, b'{"a": ' + b"9" * 100_000 + b"}"])
def test_deep_and_long_json(nested, saved):
    model, path = saved
    path.write_bytes(write_entries(list({**read_entries(path.read_bytes()), "data": nested}.items())))
    with pytest.raises(InvalidFileError, match="cannot be read"):
        type(model).load(path)


@pytest.mark.parametrize(
    ("entries", "compression", "message"),
    [
        ([("data", b"0" * 10**6)], zipfile.ZIP_DEFLATED, "it holds a compressed entry"),
        ([("data", b"1"), ("data", b"2")], zipfile.ZIP_STORED, "two entries of the same name"),
    ],
    ids=["bomb", "twice"],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zips_that_would_do_harm(entries, compression, message):
    with pytest.raises(InvalidFileError, match=message):
        untrusted.read_zip_entries(write_entries(entries, compression), "x")


def test_zips_that_claim_to_hold_more_than_their_size():
    """Python before 3.11.8 reads entries that lie inside each other, each of which is as large as the file."""
    content = bytearray(write_entries([("data", b"0" * 10**5)]))
    struct.pack_into("<LL", content, content.index(b"PK\x01\x02") + 20, 10**9, 10**9)
    with pytest.raises(InvalidFileError, match="claims to hold more than its own size"):
        untrusted.read_zip_entries(bytes(content), "x")


@pytest.mark.parametrize(
    "tensor",
    [
        th.zeros(1).expand(10**12),
        th.sparse_coo_tensor(th.zeros(1, 1, dtype=th.long), th.ones(1), (10**12,), check_invariants=False),
        bytearray(3),
        th.nn.Parameter(th.zeros(1)),
        th.zeros(2, dtype=th.complex64),
        np.float64(1),
    ],
    ids=["expanded", "sparse", "bytearray", "parameter", "complex", "numpy"],
)
def test_only_plain_tensors_are_read(tensor, tmp_path):
    with pytest.raises(InvalidFileError, match="x cannot be read"):
        untrusted.load_tensors(torch_bytes({"a": tensor}), "x")


def test_numbers_that_are_not_finite_are_refused(saved):
    model, path = saved
    for value in (np.nan, np.inf):
        for name in ("policy.pth", f"policy.{model.policy.optimizer_names[0]}.pth"):
            entries = read_entries(path.read_bytes())
            state = th.load(io.BytesIO(entries[name]), weights_only=True)
            tensors = state if name == "policy.pth" else state["state"][0]
            next(iter(tensors.values())).fill_(value)
            entries[name] = torch_bytes(state)
            with pytest.raises(InvalidFileError, match="not finite"):
                type(model).load(io.BytesIO(write_entries(list(entries.items()))))


def test_trust_is_the_only_way_to_unpickle(saved, tmp_path):
    canary = tmp_path / "canary"
    pickled = {":type:": "x", ":serialized:": base64.b64encode(pickle.dumps(Canary(canary))).decode()}
    with pytest.raises(ValueError, match="trust=True"):
        archive.decode(pickled)
    assert not canary.exists()
    archive.decode(pickled, trust=True)
    assert canary.exists()


def test_some_hundred_hostile_files():
    """What `python -m benchmarks.reliability hostile` does with thousands."""
    result = measure_hostile("GoGePo", n=120, seed=3)
    assert sum(result["outcomes"].values()) == result["survived"] == 120
    assert result["outcomes"]["InvalidFileError"] > 60


def test_the_measurement_sees_harm():
    """ARS runs pickles: SB3's format allows it."""
    result = measure_hostile("ARS", n=120, seed=3)
    assert result["outcomes"]["ran the file's code"] > 0
    assert not is_harmless("ARS", "ran the file's code")
    assert not is_harmless("GoGePo", "RuntimeError")
    assert result["survived"] < 120
