import base64
import inspect
import io
import json
import os
import pickle
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import LinearSchedule

from sb3_gogepo import UDRL, UDRLPG, GeneratedPolicy, GoGePo, presets
from sb3_gogepo.base.generator_algorithm import GeneratorAlgorithm
from sb3_gogepo.saving.untrusted import InvalidFileError
from tests.helpers import act, assert_same_buffer, assert_same_buffer_state, optimizers_of
from tests.toy_envs import ConstantObs, Seeded, Spaces

OBSERVATIONS = np.array([[0.5, 0.0], [-0.5, 3.0], [2.0, 1.0]], np.float32)


GENERATOR_ARGUMENTS = dict(
    weight_noise_std=0.3,
    final_weight_noise_std=0.2,
    weight_noise_steps=77,
    weight_noise_scaling="none",
    probe_fraction=0.2,
    probe_after=0.125,
    first_command=0.75,
    command_increment=2.0,
    command_increment_std=3.0,
    return_range=(-7.0, 9.0),
    fold_normalization=False,
)
OWN_ARGUMENTS = {
    GoGePo: dict(
        evaluator_learning_rate=0.25,
        recency=0.5,
        elite_fraction=0.25,
        even_fraction=0.1,
        imitation_coef=0.5,
        evaluator_gradient_steps=1,
        generator_gradient_steps=5,
        n_warm_up_episodes=3,
        prune_after=0.5,
        rerun_fraction=0.2,
        use_critic=True,
        critic_kwargs=dict(gamma=0.9, net_arch=[8]),
        **GENERATOR_ARGUMENTS,
    ),
    UDRL: dict(
        last_few=7,
        gradient_steps=5,
        n_warm_up_episodes=3,
        return_scale=0.5,
        horizon_scale=0.25,
        command_increment_std=2.0,
        extrapolate_horizon=False,
    ),
    UDRLPG: dict(
        n_buckets=5,
        bucket_size=3,
        rank_scale=0.5,
        replace_in_bucket="none",
        gradient_steps=5,
        n_warm_up_episodes=3,
        freeze_statistics_after=100,
        **GENERATOR_ARGUMENTS,
    ),
}
NOT_IN_THE_FILE = {"policy", "env", "device", "stats_window_size", "_init_setup_model"}
PAPERS = {GoGePo: presets.PAPER, UDRL: presets.UDRL_LUNAR_LANDER, UDRLPG: presets.UDRLPG_PAPER}


def predict(model):
    return model.predict(OBSERVATIONS, deterministic=True)[0]


def read_data(path):
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read("data"))


def rewrite(path, **entries):
    """Write a zip anew with some entries replaced; ``data`` may be a function of the old one."""
    with zipfile.ZipFile(path) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    for name, new in entries.items():
        contents[name] = json.dumps(new(json.loads(contents[name]))).encode() if callable(new) else new
    with zipfile.ZipFile(path, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)


def skip_without_generator(model):
    if not isinstance(model, GeneratorAlgorithm):
        pytest.skip("UDRL generates no policies")


@pytest.fixture
def saved(make_model, tmp_path):
    """A trained model and the path of its zip."""
    model = make_model().learn(30)
    model.save(tmp_path / "model")
    return model, tmp_path / "model.zip"


# ---------------------------------------------------------------- the file


def test_layout_is_sb3s_without_pickles(saved, algorithm):
    _, path = saved
    with zipfile.ZipFile(path) as file:
        assert set(file.namelist()) == {
            "data",
            "policy.pth",
            *(f"policy.{name}.pth" for name in saved[0].policy.optimizer_names),
            "pytorch_variables.pth",
            "_stable_baselines3_version",
            "system_info.txt",
        }
        data = file.read("data").decode()
        assert ":serialized:" not in data
        assert json.loads(data)["algorithm"] == algorithm.__name__
        for name in file.namelist():
            if name.endswith(".pth"):
                th.load(io.BytesIO(file.read(name)), weights_only=True)


def test_every_constructor_argument_is_in_the_file(make_model, tmp_path, algorithm, tiny):
    arguments = dict(
        learning_rate=0.5,
        buffer_size=7,
        batch_size=3,
        train_freq=(3, "episode"),
        n_candidates=2,
        alive_bonus_offset=-0.5,
        normalize_observations=False,
        tensorboard_log="somewhere",
        verbose=0,
        seed=11,
        on_non_finite="raise",
        rollout_backend="subprocess",
        rollout_workers=2,
        rollout_kwargs=dict(episode_timeout_s=30.0),
        policy_kwargs=dict(tiny["policy_kwargs"], activation_fn=th.nn.ReLU, optimizer_kwargs=dict(betas=(0.5, 0.9))),
        **OWN_ARGUMENTS[algorithm],
    )
    missing = set(inspect.signature(algorithm).parameters) - arguments.keys() - NOT_IN_THE_FILE
    assert not missing
    model = make_model(**arguments, stats_window_size=17)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model")
    assert arguments["policy_kwargs"].items() <= model.policy_kwargs.items()  # a critic adds some
    for name, value in {**arguments, "policy_kwargs": model.policy_kwargs}.items():
        assert getattr(loaded, name) == value, name
        assert type(getattr(loaded, name)) is type(value), name
    assert loaded._stats_window_size == 17
    assert loaded.policy.activation_fn is th.nn.ReLU
    assert all(optimizer.defaults["betas"] == (0.5, 0.9) for optimizer in optimizers_of(loaded))


@pytest.mark.parametrize("kind", ["str", "Path", "Path without suffix", "BytesIO", "file"])
def test_targets(kind, saved, tmp_path, algorithm):
    model, _ = saved
    target = {
        "str": str(tmp_path / "other.zip"),
        "Path": tmp_path / "other.zip",
        "Path without suffix": tmp_path / "new folder" / "other",
        "BytesIO": io.BytesIO(),
        "file": tmp_path / "other.zip",
    }[kind]
    if kind == "file":
        with open(target, "wb") as file:
            model.save(file)
        with open(target, "rb") as file:
            loaded = algorithm.load(file)
    else:
        model.save(target)
        loaded = algorithm.load(target)
    assert np.array_equal(predict(loaded), predict(model))


def test_loading_without_env_predicts_the_same(saved, algorithm):
    model, path = saved
    loaded = algorithm.load(path)
    assert loaded.get_env() is None
    assert np.array_equal(predict(loaded), predict(model))
    assert loaded.command == model.command
    assert loaded.best_return == model.best_return
    loaded.command = model.command = 5.0
    assert np.array_equal(predict(loaded), predict(model))
    with pytest.raises(ValueError, match="no env to learn in"):
        loaded.learn(10)
    with pytest.raises(ValueError, match="no env to evaluate in"):
        loaded.evaluate_commands([1.0])


def test_a_command_that_was_set_is_saved(saved, tmp_path, algorithm):
    model, _ = saved
    model.command = -2.5
    model.save(tmp_path / "set")
    loaded = algorithm.load(tmp_path / "set", env=Seeded())
    assert loaded.learn(10, reset_num_timesteps=False).command == -2.5


def test_loading_with_what_makes_an_env(saved, algorithm):
    loaded = algorithm.load(saved[1], env=Seeded)
    assert isinstance(loaded.env.envs[0].unwrapped, Seeded)
    assert loaded.env_fn is Seeded  # workers will call it, too
    with pytest.raises(ValueError, match="env must be a Gymnasium env or a registered id, got 'Hoper-v3'"):
        algorithm.load(saved[1], env="Hoper-v3")


@pytest.mark.parametrize("n_envs", [1, 3])
def test_loading_with_an_env(n_envs, saved, algorithm):
    _, path = saved
    loaded = algorithm.load(path, env=make_vec_env(Seeded, n_envs))
    assert loaded.n_envs == n_envs
    assert loaded.learn(10, reset_num_timesteps=False).num_timesteps >= 40


@pytest.mark.parametrize(
    "action_space", [spaces.Discrete(3, start=1), spaces.Box(-2, np.array([3, 4]), dtype=np.float64)], ids=str
)
def test_spaces_survive(action_space, make_model, tmp_path, algorithm):
    observation_space = spaces.Box(np.array([-np.inf, 0]), np.array([np.inf, 7]), dtype=np.float64)
    env = Spaces(observation_space, action_space)
    make_model(env).save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=env)
    assert loaded.observation_space == observation_space
    assert loaded.action_space == action_space


def test_keywords_replace_saved_settings(saved, algorithm):
    _, path = saved
    loaded = algorithm.load(path, env=Seeded(), learning_rate=0.125, batch_size=2, custom_objects=dict(buffer_size=40))
    assert (loaded.learning_rate, loaded.batch_size, loaded.buffer_size) == (0.125, 2, 40)
    loaded.learn(10)
    assert optimizers_of(loaded)[0].param_groups[0]["lr"] == 0.125


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        (dict(batch_size=-3), "batch_size must be an integer >= 1, got -3"),
        (dict(learning_rate=-1.0), "learning_rate must be a finite number >= 0, got -1.0"),
        (dict(custom_objects=dict(on_non_finite="no")), "on_non_finite must be one of 'discard', 'raise', got 'no'"),
    ],
    ids=["keyword", "of the networks", "custom object"],
)
def test_what_replaces_saved_settings_is_checked(replaced, message, saved, algorithm):
    with pytest.raises(ValueError, match=f"^{message}") as error:
        algorithm.load(saved[1], **replaced)
    assert not isinstance(error.value, InvalidFileError)  # it is not the file's fault


@pytest.mark.parametrize(("given", "kept"), [(7, (7, "step")), ((3, "episode"), (3, "episode"))])
def test_train_freq_replaced_at_loading_is_what_the_constructor_takes(given, kept, saved, algorithm):
    """RL Zoo passes all hyperparameters to ``load`` when it continues a training."""
    _, path = saved
    assert algorithm.load(path, env=Seeded(), train_freq=given).learn(10).train_freq == kept
    with pytest.raises(ValueError, match="train_freq must be an integer >= 1"):
        algorithm.load(path, train_freq=0)


def test_paper_preset_round_trip(tmp_path, algorithm):
    model = algorithm("MlpPolicy", Seeded(), **PAPERS[algorithm], seed=0).learn(3)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model")
    assert loaded.policy_kwargs == PAPERS[algorithm]["policy_kwargs"]
    assert np.array_equal(predict(loaded), predict(model))


def test_system_info_is_printed_when_asked(saved, capsys, algorithm):
    algorithm.load(saved[1], print_system_info=True)
    assert "SAVED MODEL SYSTEM INFO" in capsys.readouterr().out


# ---------------------------------------------------------------- continue exactly


def assert_same_state(one, two):
    """Everything that learning depends on."""
    one_parameters, two_parameters = one.get_parameters(), two.get_parameters()
    for name, values in one_parameters["policy"].items():
        assert th.equal(values, two_parameters["policy"][name]), name
    for name in one_parameters.keys() - {"policy"}:
        th.testing.assert_close(one_parameters[name], two_parameters[name], rtol=0, atol=0)
    assert_same_buffer(one, two)
    for name in ("num_timesteps", "best_return", "_episode_num", "_candidate_num", "_n_updates", "_untrained_amount"):
        assert getattr(one, name) == getattr(two, name), name
    drop_time = [[{**info, "t": None} for info in model.ep_info_buffer] for model in (one, two)]
    assert drop_time[0] == drop_time[1]


@pytest.mark.parametrize(
    "overrides",
    [
        dict(),
        dict(train_freq=7),  # env steps left over at the end
        dict(buffer_size=6),
        dict(learning_rate=LinearSchedule(1e-2, 0.0, 1.0)),
        dict(seed=None),
        dict(n_candidates=3, alive_bonus_offset=-0.5),
        dict(optimizer_class=th.optim.AdamW),
    ],
    ids=["plain", "steps", "full buffer", "schedule", "no seed", "candidates", "optimizer"],
)
def test_a_loaded_model_goes_on_exactly(overrides, make_model, tmp_path, algorithm, tiny):
    own_policy_kwargs = {name: overrides[name] for name in overrides.keys() & {"optimizer_class"}}
    overrides = {name: overrides[name] for name in overrides.keys() - own_policy_kwargs.keys()}
    model = make_model(**overrides, policy_kwargs={**tiny["policy_kwargs"], **own_policy_kwargs}).learn(60)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = algorithm.load(tmp_path / "model", env=Seeded())
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert_same_state(loaded, model)
    for one in (model, loaded):
        one.learn(60, reset_num_timesteps=False)
    assert_same_state(loaded, model)
    assert np.array_equal(predict(loaded), predict(model))


def test_a_seed_given_when_loading_is_that_of_what_follows(saved, tmp_path, algorithm):
    model, path = saved
    model.save_replay_buffer(tmp_path / "buffer")

    def go_on(seed, with_buffer=False):
        loaded = algorithm.load(path, env=Seeded(), seed=seed)
        if with_buffer:
            loaded.load_replay_buffer(tmp_path / "buffer")
        return loaded.learn(60, reset_num_timesteps=False)

    assert_same_state(go_on(7), go_on(7))
    assert not np.array_equal(predict(go_on(7)), predict(go_on(8)))
    # With its replay buffer the run goes on exactly
    assert_same_state(go_on(7, with_buffer=True), model.learn(60, reset_num_timesteps=False))


def test_saving_changes_nothing(make_model, tmp_path):
    one, two = make_model().learn(30), make_model().learn(30)
    one.save(tmp_path / "model")
    one.save_replay_buffer(tmp_path / "buffer")
    for model in (one, two):
        model.learn(30, reset_num_timesteps=False)
    assert_same_state(one, two)


def test_without_its_buffer_a_model_fills_a_new_one(saved, algorithm):
    loaded = algorithm.load(saved[1], env=Seeded())
    assert len(loaded.replay_buffer) == 0
    assert loaded.learn(10, reset_num_timesteps=False).best_return >= saved[0].best_return


# ---------------------------------------------------------------- all or nothing


def fail(*_args, **_kwargs):
    raise OSError("disk full")


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failing_save_leaves_the_old_file(step, saved, monkeypatch):
    model, path = saved
    buffer_path = path.with_name("buffer.pt")
    model.save_replay_buffer(buffer_path)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    model.learn(10)
    monkeypatch.setattr(os, step, fail)
    for save, target in [(model.save, path), (model.save_replay_buffer, buffer_path), (model.policy.save, buffer_path)]:
        with pytest.raises(OSError, match="disk full"):
            save(target)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize(
    "damage", ["text", "no dict", "half", "other size", "too few returns", "not finite", "no generator", "no seed"]
)
def test_a_failed_buffer_load_keeps_the_buffer(damage, saved, tmp_path):
    model, _ = saved
    before = model.replay_buffer.state_dict()
    first = next(iter(before))  # policy_weights or observations
    path = tmp_path / "buffer.pt"
    if damage == "text":
        path.write_text("no buffer")
    else:
        content = {
            "no dict": [1, 2],
            "half": {first: before[first]},
            "other size": {**before, first: before[first][:, 1:]},
            "too few returns": {**before, "returns": before["returns"][:-1]},
            "not finite": {**before, "returns": before["returns"] * np.nan},
            "no generator": {**before, "rng": "{}"},
            "no seed": {**before, "run_seed": -1},
        }[damage]
        th.save(content, path)
    with pytest.raises(ValueError, match=r"buffer\.pt'|must have \d+ (weights|numbers)"):
        model.load_replay_buffer(path)
    assert_same_buffer_state(model.replay_buffer.state_dict(), before)


@pytest.mark.parametrize("saved_as", ["buffer", "buffer.pt", "buffer.pkl"])
def test_a_buffers_suffix_may_be_left_out(saved_as, saved, tmp_path):
    """RL Zoo and SB3's CheckpointCallback call it .pkl."""
    model, _ = saved
    before = model.replay_buffer.state_dict()
    model.save_replay_buffer(tmp_path / saved_as)
    model.learn(10)
    model.load_replay_buffer(tmp_path / "buffer")
    assert_same_buffer_state(model.replay_buffer.state_dict(), before)


def test_a_buffer_of_another_policy_size_is_named(saved, make_model, tmp_path, tiny):
    skip_without_generator(saved[0])
    make_model(policy_kwargs=dict(tiny["policy_kwargs"], net_arch=[5])).learn(10).save_replay_buffer(tmp_path / "other")
    with pytest.raises(ValueError, match=r"must have the shape \(\d+, 17\), got \(\d+, 21\)"):
        saved[0].load_replay_buffer(tmp_path / "other")


# ---------------------------------------------------------------- files that must not be trusted


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def pickled_entry(value):
    return {":type:": "x", ":serialized:": base64.b64encode(pickle.dumps(value)).decode()}


@pytest.mark.parametrize("name", ["policy_kwargs", "learning_rate", "something new", "observation_space"])
def test_pickled_entries_are_not_run(name, saved, tmp_path, algorithm):
    _, path = saved
    rewrite(path, data=lambda data: {**data, name: pickled_entry(Bomb(tmp_path / "ran"))})
    with pytest.raises(ValueError, match=f"cannot load '{name}' from .*model.zip': it is pickled.*trust=True"):
        algorithm.load(path)
    assert not (tmp_path / "ran").exists()


def test_deeply_hidden_pickled_entries_are_not_run(saved, tmp_path, algorithm):
    _, path = saved
    bomb = {"__type__": "tuple", "items": [{"a": [pickled_entry(Bomb(tmp_path / "ran"))]}]}
    rewrite(path, data=lambda data: {**data, "policy_kwargs": {**data["policy_kwargs"], "net_arch": bomb}})
    with pytest.raises(ValueError, match="trust=True"):
        algorithm.load(path)
    assert not (tmp_path / "ran").exists()


def test_trust_unpickles(saved, algorithm):
    _, path = saved
    rewrite(path, data=lambda data: {**data, "learning_rate": pickled_entry(0.375)})
    assert algorithm.load(path, trust=True).learning_rate == 0.375
    assert algorithm.load(path, learning_rate=0.25).learning_rate == 0.25  # a replaced entry is not even looked at


@pytest.mark.parametrize(
    ("module", "name"), [("subprocess", "Popen"), ("posix", "system"), ("os", "system"), ("tests.toy_envs", "Square")]
)
@pytest.mark.parametrize("entry", ["policy_class", "learning_rate", "policy_kwargs"])
def test_foreign_classes_are_not_imported(entry, module, name, saved, algorithm):
    _, path = saved
    reference = {"__type__": "class", "module": module, "name": name}
    if entry == "policy_kwargs":
        rewrite(path, data=lambda data: {**data, entry: {**data[entry], "activation_fn": reference}})
    else:
        rewrite(path, data=lambda data: {**data, entry: reference})
    with pytest.raises(ValueError, match=f"cannot load '{entry}' .* the class {module}.{name}, .*trust=True"):
        algorithm.load(path)


def test_importing_a_foreign_module_has_no_effect(saved, tmp_path, monkeypatch, algorithm):
    (tmp_path / "evil_module.py").write_text(
        "import os\nos.mkdir(os.path.join(os.path.dirname(__file__), 'ran'))\nclass A: pass"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rewrite(saved[1], data=lambda data: {**data, "x": {"__type__": "class", "module": "evil_module", "name": "A"}})
    with pytest.raises(ValueError, match="trust=True"):
        algorithm.load(saved[1])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", ["torch", "pickle"])
@pytest.mark.parametrize("name", ["policy.pth", "policy.optimizer.pth", "pytorch_variables.pth", "surplus.pth"])
def test_pickled_tensors_files_are_not_run(name, how, saved, tmp_path, algorithm):
    model, path = saved
    name = name.replace("optimizer", model.policy.optimizer_names[0])
    file = io.BytesIO()
    bomb = {"a": Bomb(tmp_path / "ran")}
    if how == "torch":
        th.save(bomb, file)
    else:
        pickle.dump(bomb, file, protocol=2)  # the one torch reads without a warning
    rewrite(path, **{name: file.getvalue()})
    with pytest.raises(ValueError, match=r"model\.zip"):
        algorithm.load(path)
    assert not (tmp_path / "ran").exists()


def test_set_parameters_from_a_zip_runs_nothing(saved, tmp_path):
    model, path = saved
    before = predict(model)
    file = io.BytesIO()
    th.save({"a": Bomb(tmp_path / "ran")}, file)
    rewrite(path, **{"policy.pth": file.getvalue()})
    with pytest.raises(InvalidFileError, match="names posix mkdir"):
        model.set_parameters(str(path))
    assert not (tmp_path / "ran").exists()
    assert np.array_equal(predict(model), before)


@pytest.mark.parametrize("generated", [False, True])
def test_policy_files_run_nothing(generated, saved, tmp_path):
    model, _ = saved
    if generated:
        skip_without_generator(model)
    policy = model.generate_policy(1.0) if generated else model.policy
    cls = type(policy)
    policy.save(tmp_path / "policy")
    content = th.load(tmp_path / "policy", weights_only=True)

    th.save({**content, "extra": Bomb(tmp_path / "ran")}, tmp_path / "pickled")
    with pytest.raises(ValueError, match="pickled' cannot be read"):
        cls.load(tmp_path / "pickled")

    arguments = json.loads(content["data"])
    for entry in ({"__type__": "class", "module": "subprocess", "name": "Popen"}, pickled_entry(Bomb(tmp_path / "ran"))):
        th.save({**content, "data": json.dumps({**arguments, "activation_fn": entry})}, tmp_path / "named")
        with pytest.raises(ValueError, match=r"cannot load 'activation_fn' from .*trust=True"):
            cls.load(tmp_path / "named")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["other class", "no data", "half data", "no dict", "text"])
def test_damaged_policy_files_are_refused(damage, saved, tmp_path):
    model, _ = saved
    path = tmp_path / "policy"
    if damage == "other class":
        model.policy.save(path)
    elif damage == "text":
        path.write_text("no policy")
    else:
        data = {"no data": {}, "half data": dict(data="{"), "no dict": dict(data="[]")}[damage]
        th.save({"state_dict": {}, **data}, path)
    with pytest.raises(ValueError, match="policy'"):
        GeneratedPolicy.load(path)


def test_a_generated_policys_file_is_no_generators(saved, tmp_path):
    model, _ = saved
    skip_without_generator(model)
    model.generate_policy(1.0).save(tmp_path / "policy")
    with pytest.raises(ValueError, match=f"policy' does not hold a {type(model.policy).__name__}"):
        type(model.policy).load(tmp_path / "policy")


# ---------------------------------------------------------------- schedules that cannot be saved


def test_a_path_of_logs_is_saved(make_model, tmp_path, algorithm):
    make_model(tensorboard_log=tmp_path / "logs").save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=Seeded())
    assert loaded.tensorboard_log == str(tmp_path / "logs")
    assert loaded.learn(10).num_timesteps >= 10


class Told(gym.Wrapper):
    """Gives a Monitor something that no JSON can express."""

    def step(self, action):
        *others, info = self.env.step(action)
        return *others, {**info, "secret": {1, 2}}


def test_what_monitors_collect_is_not_needed_to_go_on(make_model, tmp_path, algorithm):
    def make_env():
        return Monitor(Told(Seeded()), info_keywords=("secret",))

    model = make_model(make_env()).learn(20)
    with pytest.warns(UserWarning, match="ep_info_buffer was not saved"):
        model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=make_env())
    assert len(loaded.learn(20, reset_num_timesteps=False).ep_info_buffer)


def test_a_lambda_schedule_must_be_passed_again(make_model, tmp_path, algorithm):
    model = make_model(learning_rate=lambda progress: 0.01 * progress).learn(20)
    with pytest.warns(UserWarning, match="learning_rate was not saved"):
        model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=Seeded())
    assert np.array_equal(predict(loaded), predict(model))
    with pytest.raises(ValueError, match="pass learning_rate= to load"):
        loaded.learn(10)
    loaded = algorithm.load(tmp_path / "model", env=Seeded(), learning_rate=0.5)
    assert loaded.learn(10).learning_rate == 0.5


# ---------------------------------------------------------------- files of something else, damaged files


def test_zip_of_another_algorithm(tmp_path, algorithm):
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").save(tmp_path / "ppo")
    with pytest.raises(ValueError, match=f"ppo' was saved by another algorithm, not by {algorithm.__name__}"):
        algorithm.load(tmp_path / "ppo")


@pytest.mark.parametrize("n_bytes", [0, 1, 100, 2000, -1])
def test_truncated_zips(n_bytes, saved, tmp_path, algorithm):
    content = saved[1].read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[:n_bytes])
    with pytest.raises(ValueError, match=r"cut(\.zip)?' is not a complete zip file"):
        algorithm.load(tmp_path / "cut")


def test_missing_file(tmp_path, algorithm):
    with pytest.raises(FileNotFoundError):
        algorithm.load(tmp_path / "nothing")


@pytest.mark.parametrize("missing", ["policy.pth", "policy.optimizer.pth", "data"])
def test_missing_entries(missing, saved, algorithm):
    model, path = saved
    missing = missing.replace("optimizer", model.policy.optimizer_names[-1])
    with zipfile.ZipFile(path) as file:
        contents = {name: file.read(name) for name in file.namelist() if name != missing}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)
    with pytest.raises(ValueError, match=r"model\.zip'"):
        algorithm.load(path)


@pytest.mark.parametrize("name", ["policy_class", "policy_kwargs", "observation_space", "action_space"])
def test_missing_settings(name, saved, algorithm):
    rewrite(saved[1], data=lambda data: {key: value for key, value in data.items() if key != name})
    with pytest.raises(ValueError, match=f"{name}|do not fit its settings"):
        algorithm.load(saved[1])


def test_networks_that_do_not_fit_the_settings(saved, algorithm):
    rewrite(saved[1], data=lambda data: {**data, "policy_kwargs": {**data["policy_kwargs"], "net_arch": [5]}})
    with pytest.raises(ValueError, match=r"the networks in '.*model\.zip' do not fit its settings"):
        algorithm.load(saved[1])


def test_policy_kwargs_that_could_not_be_saved_are_passed_again(tiny, algorithm, tmp_path):
    """A class that was defined inside a function, as one of a script or notebook, has no name that could be imported."""

    class Activation(th.nn.ReLU):
        pass

    policy_kwargs = {**tiny.get("policy_kwargs", {}), "activation_fn": Activation}
    model = algorithm("MlpPolicy", ConstantObs(), **{**tiny, "policy_kwargs": policy_kwargs}).learn(10)
    with pytest.warns(UserWarning, match="policy_kwargs"):
        model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="lacks policy_kwargs, which could not be saved: pass policy_kwargs when loading"):
        algorithm.load(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", policy_kwargs=policy_kwargs)
    observations = np.ones((1, 1), np.float32)
    assert np.array_equal(act(loaded, observations), act(model, observations))
    other = algorithm("MlpPolicy", ConstantObs(), **{**tiny, "policy_kwargs": policy_kwargs, "seed": 5})
    other.set_parameters(tmp_path / "model")  # networks only: the settings do not matter
    assert np.array_equal(act(other, observations), act(model, observations))

    with pytest.warns(UserWarning, match="activation_fn"):
        model.policy.save(tmp_path / "policy")
    with pytest.raises(ValueError, match="activation_fn must be"):
        type(model.policy).load(tmp_path / "policy")
    policy = type(model.policy).load(tmp_path / "policy", activation_fn=Activation)
    assert np.array_equal(policy.predict(observations, deterministic=True)[0], act(model, observations))


def test_a_policy_class_that_could_not_be_saved_is_passed_again(tiny, algorithm, tmp_path):
    class Policy(algorithm.policy_aliases["MlpPolicy"]):
        pass

    with pytest.warns(UserWarning, match="policy_class"):
        algorithm(Policy, ConstantObs(), **tiny).learn(10).save(tmp_path / "model")
    with pytest.raises(ValueError, match="policy_class must be a policy class of"):
        algorithm.load(tmp_path / "model")
    assert type(algorithm.load(tmp_path / "model", policy_class=Policy).policy) is Policy


def test_spaces_can_be_replaced(saved, algorithm):
    """SB3's remedy for files whose spaces cannot be read."""
    model, path = saved
    custom = dict(observation_space=model.observation_space, action_space=model.action_space)
    assert algorithm.load(path, custom_objects=custom).observation_space == model.observation_space


def test_other_policy_kwargs_are_refused(saved, algorithm):
    with pytest.raises(ValueError, match="policy_kwargs must equal the saved"):
        algorithm.load(saved[1], policy_kwargs=dict(net_arch=[5]))


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (ConstantObs(), "Observation spaces do not match"),
        (Spaces(Seeded().observation_space, spaces.Discrete(2)), "Action spaces do not match"),
        (Spaces(Seeded().observation_space, spaces.Box(-2, 2, (1,))), "Action spaces do not match"),
    ],
    ids=["observations", "kind of action", "bounds"],
)
def test_env_with_other_spaces(env, message, saved, algorithm):
    with pytest.raises(ValueError, match=message):
        algorithm.load(saved[1], env=env)
