"""Files that somebody changed by hand, who knows the format and torch's reader: each of these was a hole once."""

import io
import json

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from benchmarks.reliability.hostile_files import read_entries, torch_bytes, write_entries
from sb3_gogepo import InvalidFileError
from sb3_gogepo.saving import archive, untrusted
from tests.helpers import rewrite_data
from tests.toy_envs import Seeded


@pytest.mark.parametrize("field", ["num_timesteps", "batch_size", "weight_noise_std", "best_return", "run_seed", "seed"])
def test_integers_beyond_any_float_are_refused(field, saved):
    model, path = saved
    rewrite_data(path, lambda data: data.update({field: 10**400}))
    with pytest.raises(InvalidFileError, match=field):
        type(model).load(path)


@pytest.mark.parametrize("verbose", [-1, 0.5, "loud", None])
def test_verbose_is_checked_as_by_the_constructor(verbose, saved):
    model, path = saved
    rewrite_data(path, lambda data: data.update(verbose=verbose))
    with pytest.raises(InvalidFileError, match="verbose must be an integer >= 0"):
        type(model).load(path)


def torch_class(module, name):
    return {"__type__": "class", "module": f"torch.nn.modules.{module}", "name": name}


@pytest.mark.parametrize(
    "name", [("module", "Module"), ("container", "ModuleList"), ("loss", "MSELoss"), ("batchnorm", "LazyBatchNorm1d")]
)
def test_modules_that_are_no_activation_are_refused(name, saved):
    model, path = saved
    rewrite_data(path, lambda data: data["policy_kwargs"].update(activation_fn=torch_class(*name)))
    with pytest.raises(InvalidFileError, match=r"cannot act|do not fit its settings"):
        type(model).load(path)


@pytest.mark.parametrize(
    ("entry", "value"),
    [("normalizer.var", -1.0), ("command_scaler.scale", 0.0), ("generator.weight_networks.input.hidden.0.weight", 3e38)],
)
def test_finite_numbers_that_make_actions_nan_are_refused(entry, value, saved, tmp_path):
    model, path = saved
    entries = read_entries(path.read_bytes())
    state = th.load(io.BytesIO(entries["policy.pth"]), weights_only=True)
    state[entry].fill_(value)
    path.write_bytes(write_entries(list({**entries, "policy.pth": torch_bytes(state)}.items())))
    before = model.predict(np.ones(2, np.float32))[0]
    for load in (type(model).load, model.set_parameters, lambda path: model.set_parameters(io.BytesIO(path.read_bytes()))):
        with pytest.raises(InvalidFileError, match="acts with numbers that are not finite"):
            load(path)
    np.testing.assert_array_equal(model.predict(np.ones(2, np.float32))[0], before)
    model.policy.load_state_dict(state)
    model.policy.save(tmp_path / "policy")
    with pytest.raises(InvalidFileError, match="acts with numbers that are not finite"):
        type(model.policy).load(tmp_path / "policy")


@pytest.mark.parametrize("shape", [(), (1,), (7,)])
def test_optimizer_states_of_other_sizes_are_refused(shape, saved):
    """Adam's fused kernel would read and write what lies behind them."""
    model, path = saved
    entries = read_entries(path.read_bytes())
    name = f"policy.{model.policy.optimizer_names[0]}.pth"
    state = th.load(io.BytesIO(entries[name]), weights_only=True)
    state["state"][0]["exp_avg"] = th.zeros(shape)
    path.write_bytes(write_entries(list({**entries, name: torch_bytes(state)}.items())))
    with pytest.raises(InvalidFileError, match="'exp_avg' of an optimizer must have shape"):
        type(model).load(path)


def test_an_infinite_action_space_is_refused(saved):
    model, path = saved
    rewrite_data(path, lambda data: data["action_space"]["high"].update(values=[float("inf")]))
    with pytest.raises(InvalidFileError, match="acts with numbers that are not finite"):
        type(model).load(path)


def test_parameters_of_other_networks_leave_the_model_as_it_is(saved, make_model, tmp_path):
    model, _ = saved
    other = make_model(policy_kwargs={**model.policy_kwargs, "net_arch": [4, 9]})
    other.save(tmp_path / "other")
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    with pytest.raises(InvalidFileError, match="do not fit its settings"):
        model.set_parameters(tmp_path / "other.zip")
    for key, value in model.policy.state_dict().items():
        assert th.equal(value, before[key])


def with_pickle(pickled):
    """What torch.save wrote, with another pickle in it."""
    entries = read_entries(torch_bytes({"a": th.zeros(1)}))
    return write_entries([(name, pickled if name.endswith("data.pkl") else content) for name, content in entries.items()])


def test_a_pickle_in_front_of_the_zip_is_not_read():
    """torch would read the front, where nobody looked at the names."""
    front = torch_bytes({"a": bytearray(10)}, _use_new_zipfile_serialization=False)
    with pytest.raises(InvalidFileError, match="begins with something else"):
        untrusted.load_tensors(front + torch_bytes({"a": th.zeros(1)}), "x")


def test_a_pickle_under_a_name_in_capitals_is_not_read():
    """torch finds entries whatever their case: it would read the second."""
    hidden = next(content for name, content in read_entries(torch_bytes({"a": bytearray(9)})).items() if "data.pkl" in name)
    entries = read_entries(torch_bytes({"a": th.zeros(1)}))
    capital = next(name for name in entries if name.endswith("data.pkl")).replace("data.pkl", "DATA.PKL")
    with pytest.raises(InvalidFileError, match="two entries of the same name"):
        untrusted.load_tensors(write_entries([*entries.items(), (capital, hidden)]), "x")


@pytest.mark.parametrize("method", ["items", "keys", "values", "copy"])
def test_methods_that_a_file_replaces(method, saved, tmp_path):
    """A pickle may set attributes of an OrderedDict."""
    model, path = saved
    name = method.encode()
    bad = with_pickle(b"\x80\x02ccollections\nOrderedDict\n)R}X" + bytes([len(name), 0, 0, 0]) + name + b"K\x01sb.")
    assert vars(untrusted.load_tensors(bad, "x")) == {}
    path.write_bytes(write_entries(list({**read_entries(path.read_bytes()), "policy.pth": bad}.items())))
    (tmp_path / "policy").write_bytes(bad)
    for load in (lambda: type(model).load(path), lambda: type(model.policy).load(tmp_path / "policy")):
        with pytest.raises(InvalidFileError):
            load()


def test_a_list_that_holds_itself_is_refused():
    with pytest.raises(InvalidFileError, match="unfolds to more than it holds"):
        untrusted.load_tensors(with_pickle(b"\x80\x02]q\x00h\x00a."), "x")


def test_lists_that_unfold_without_end_are_refused():
    """Sixty lists, each of which holds the one before it twice: torch's optimizers would copy 2**60."""
    pickled = b"\x80\x02]K\x01aq\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)) + b"."
    with pytest.raises(InvalidFileError, match="unfolds to more than it holds"):
        untrusted.load_tensors(with_pickle(pickled), "x")


def test_shared_betas_are_fine():
    betas = (0.9, 0.999)
    assert untrusted.load_tensors(torch_bytes({"a": betas, "b": betas}), "x") == {"a": betas, "b": betas}


def test_rays_settings_are_not_taken_from_a_file(saved):
    """They say whose cluster, and what it runs."""
    model, path = saved
    kwargs = {"ray_init_kwargs": {"address": "ray://stranger:1"}}
    rewrite_data(path, lambda data: data.update(rollout_backend="ray", rollout_workers=1, rollout_kwargs=kwargs))
    loaded = type(model).load(path, env=model.get_env())
    loaded.predict(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="rollout_kwargs did not come with the file: pass rollout_kwargs= to load"):
        loaded.learn(1)
    loaded.save(path.with_name("again"))
    again = type(model).load(path.with_name("again"), env=model.get_env())
    with pytest.raises(ValueError, match="rollout_kwargs did not come with the file"):
        again.learn(1)
    assert type(model).load(path, rollout_kwargs={"max_tries": 2}).rollout_kwargs == {"max_tries": 2}
    assert type(model).load(path, trust=True).rollout_kwargs == kwargs


@pytest.mark.parametrize(
    "change",
    [
        {"numpy_position": json.dumps(["MT19937", 10**9, 0, 0.0])},
        {"numpy_position": json.dumps(["MT19937", -1, 0, 0.0])},
        {"numpy_position": json.dumps(["MT19937", 1, 1, float("nan")])},
        {"numpy": th.zeros(3, dtype=th.int64)},
        {"python": json.dumps([3, [1] * 624 + [10**6], None])},
        {"torch": th.zeros(8, dtype=th.uint8)},
        {"python": json.dumps([3, [*range(624), 1], float("inf")])},
        {"x": th.tensor(float("nan"))},
    ],
    ids=["far", "negative", "nan", "few", "python", "torch", "infinite", "surplus"],
)
def test_states_of_generators_that_would_do_harm(change, saved, tmp_path):
    """NumPy takes any position, and reads what lies there."""
    model, _ = saved
    checkpoint = model.save_checkpoint(tmp_path / "run")
    state = th.load(checkpoint / "run_state.pt", weights_only=True)
    archive.write_tensors(checkpoint / "run_state.pt", {**state, **change}, suffix="")
    before = np.random.get_state()[1].copy(), th.get_rng_state()
    with pytest.raises(InvalidFileError, match=r"does not fit this|not finite"):
        model.load_run_state(checkpoint / "run_state.pt")
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert th.equal(th.get_rng_state(), before[1])


def test_statistics_of_vec_normalize_that_are_not_finite(make_model, tmp_path):
    model = make_model(env=VecNormalize(DummyVecEnv([Seeded])))
    checkpoint = model.save_checkpoint(tmp_path / "run")
    for key, value in (("vec_normalize.obs_rms", float("nan")), ("vec_normalize.obs_rms", -1.0)):
        state = th.load(checkpoint / "run_state.pt", weights_only=True)
        state[key].fill_(value)
        archive.write_tensors(tmp_path / "bad", state, suffix="")
        with pytest.raises(InvalidFileError, match=r"not finite|statistics are none"):
            model.load_run_state(tmp_path / "bad")
    assert (model.get_vec_normalize_env().obs_rms.var > 0).all()


def test_buffers_whose_numbers_are_too_large_for_float32(saved, tmp_path):
    model, _ = saved
    state = model.replay_buffer.state_dict()
    state["policy_weights"] = state["policy_weights"].double().fill_(1e300)
    archive.write_tensors(tmp_path / "buffer.pt", state, suffix="")
    with pytest.raises(InvalidFileError, match="must be finite"):
        model.load_replay_buffer(tmp_path / "buffer.pt")
