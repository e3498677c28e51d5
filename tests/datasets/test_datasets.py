"""Datasets: written, loaded by Minari, replayed against the env; stopped and gone on with; and all that is refused."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_gogepo import UDRL, UDRLPG, GoGePo
from tests.conftest import SMALL
from tests.toy_envs import ConstantObs, Seeded

minari = pytest.importorskip("minari", reason='needs the extra "datasets"')
pytest.importorskip("h5py", reason='needs the extra "datasets"')

from sb3_gogepo.datasets import assembly, recording, write_datasets, writing  # noqa: E402
from sb3_gogepo.datasets.__main__ import main  # noqa: E402
from sb3_gogepo.datasets.levels import Level, choose_levels, ids_of  # noqa: E402
from sb3_gogepo.errors import NonFiniteError  # noqa: E402

PENDULUM = "InvertedPendulum-v5"
ID = "pendulum/gogepo-v0"
FEW = dict(levels=[0, 0.5, 1.0], n_steps=60, n_eval_episodes=3)
WITHOUT_SPEC = "ignore:env cannot be made again from the dataset:UserWarning"


@pytest.fixture(autouse=True)
def datasets_path(tmp_path, monkeypatch):
    path = tmp_path / "datasets"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(path))
    return path


def trained(env=PENDULUM, algorithm=GoGePo, **overrides):
    model = algorithm("MlpPolicy", env, **{**SMALL[algorithm], **overrides}).learn(60)
    with th.no_grad():  # so that commands make a difference
        for parameter in model.policy.generator.parameters():
            parameter.mul_(1.5)
    model.policy.forget_acting_weights()
    return model


def contents(dataset_id):
    """All that a dataset holds, comparable with ==."""
    dataset = minari.load_dataset(dataset_id)
    numbers = range(dataset.total_episodes)
    episodes = [
        {name: np.asarray(value).tolist() for name, value in episode.items()}
        for episode in dataset.storage.get_episodes(numbers)
    ]
    of_episodes = [
        {name: np.asarray(value).tolist() for name, value in row.items()}
        for row in dataset.storage.get_episode_metadata(numbers)
    ]
    metadata = {name: value for name, value in dataset.storage.metadata.items() if name != "dataset_size"}
    return episodes, of_episodes, metadata


def files(path):
    """Names of all files."""
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


# ------------------------------------------------------------------ levels


def test_levels_are_shares_of_the_range_of_commands():
    levels = choose_levels((-100.0, 300.0), [0, 0.125, 1], None)
    assert levels == [Level("0percent", 0.0, -100.0), Level("12_5percent", 0.125, -50.0), Level("100percent", 1.0, 300.0)]
    assert [level.command for level in choose_levels((0.0, 8.0), None, None)] == [0, 2, 4, 6, 8]
    assert choose_levels((0.1, 0.3), [1.0], None)[0].command == 0.3
    assert ids_of("a/b/gogepo-v3", levels[:2]) == ["a/b/gogepo-0percent-v3", "a/b/gogepo-12_5percent-v3"]
    assert ids_of("gogepo-v3", levels[:1]) == ["gogepo-v3"]


def test_levels_may_be_returns():
    levels = choose_levels((0.0, 1.0), None, [-120, 0.5, 2e6])
    assert levels == [Level("returnminus120", None, -120), Level("return0_5", None, 0.5), Level("return2000000", None, 2e6)]
    assert all(minari.dataset.minari_dataset.DATASET_ID_RE.fullmatch(id_) for id_ in ids_of("x-v0", levels))


@pytest.mark.parametrize(
    ("levels", "returns", "message"),
    [
        ([0.5, 1.5], None, r"levels must be a number in \[0, 1\], got 1.5"),
        ([float("nan")], None, r"levels must be a number in \[0, 1\], got nan"),
        ([], None, r"levels must be a list of one or more numbers, got \[\]"),
        (0.5, None, r"levels must be a list of one or more numbers, got 0.5"),
        ([0.5, 0.5], None, r"levels must differ, got \[0.5, 0.5\]"),
        (None, [float("inf")], r"returns must be a finite number, got inf"),
        (None, ["a"], r"returns must be a finite number, got 'a'"),
        (None, [1, 1.0], r"returns must differ, got \[1, 1.0\]"),
        ([0.5], [1.0], r"levels and returns must not be given both"),
    ],
)
def test_wrong_levels(levels, returns, message):
    with pytest.raises(ValueError, match=message):
        choose_levels((0.0, 1.0), levels, returns)


# ------------------------------------------------------------------ what is written


@pytest.mark.parametrize(("env_id", "algorithm"), [(PENDULUM, GoGePo), ("CartPole-v1", UDRLPG)])
def test_datasets_are_loaded_by_minari_and_replayed_in_the_env(env_id, algorithm, datasets_path):
    model = trained(env_id, algorithm)
    written = write_datasets(model, ID, env_id, **FEW)
    names = [f"pendulum/gogepo-{percent}percent-v0" for percent in (0, 50, 100)]
    assert [level.dataset_id for level in written] == names
    assert set(minari.list_local_datasets()) == {*names, ID}
    low, high = model.command_range
    for level, share in zip(written, (0, 0.5, 1), strict=True):
        dataset = minari.load_dataset(level.dataset_id)
        env = dataset.recover_environment()
        policy = model.generate_policy(level.command)
        returns, lengths = [], []
        rows = dataset.storage.get_episode_metadata(range(dataset.total_episodes))
        for episode, row in zip(dataset, rows, strict=True):
            assert row["command"] == level.command == (1 - share) * low + share * high
            assert row["level"] == level.share == share
            observation, _ = env.reset(seed=int(row["seed"]))
            np.testing.assert_array_equal(episode.observations[0], observation)
            for t, action in enumerate(episode.actions):
                assert env.action_space.contains(action)
                np.testing.assert_allclose(policy.predict(observation, deterministic=True)[0], action, atol=1e-5)
                observation, reward, terminated, truncated, _ = env.step(action)
                np.testing.assert_array_equal(episode.observations[t + 1], observation)
                assert (reward, terminated, truncated) == (
                    episode.rewards[t],
                    episode.terminations[t],
                    episode.truncations[t],
                )
            assert terminated or truncated
            assert row["rewards_sum"] == pytest.approx(episode.rewards.sum())
            returns.append(episode.rewards.sum())
            lengths.append(len(episode))
        assert sum(lengths[:-1]) < FEW["n_steps"] <= sum(lengths) == level.n_steps == dataset.total_steps
        assert level.n_episodes == len(lengths)
        assert level.mean_return == pytest.approx(np.mean(returns))
        assert repr(dataset[0]).startswith("EpisodeData")
    assert not list(datasets_path.rglob(".*"))  # nothing hidden is left


def test_the_mixed_dataset_has_the_episodes_of_all_levels():
    written = write_datasets(trained(), ID, PENDULUM, **FEW)
    episodes, rows, metadata = contents(ID)
    assert metadata["combined_datasets"] == [level.dataset_id for level in written]
    parts = [contents(level.dataset_id) for level in written]
    without_id = [{**episode, "id": None} for episode in episodes]
    assert without_id == [{**episode, "id": None} for part in parts for episode in part[0]]
    assert [row["command"] for row in rows] == [row["command"] for part in parts for row in part[1]]
    assert len({row["seed"] for row in rows}) == len(rows)  # no two start alike


def test_what_a_dataset_says_of_itself():
    model = trained(alive_bonus_offset=-0.25)
    written = write_datasets(model, ID, PENDULUM, metadata={"author": "A B", "description": "Mine."}, **FEW)
    for level in written:
        assert level.achieved == pytest.approx(level.mean_return - 0.25 * level.n_steps / level.n_episodes)
    metadata = minari.load_dataset(ID).storage.metadata
    assert (metadata["author"], metadata["description"], metadata["algorithm_name"]) == ({"A B"}, "Mine.", "GoGePo")
    assert metadata["sb3_gogepo"]["levels"] == json.loads(json.dumps([level._asdict() for level in written]))
    assert metadata["num_episodes_average_score"] == 3
    low, high = metadata["ref_min_score"], metadata["ref_max_score"]
    np.testing.assert_allclose(minari.get_normalized_score(minari.load_dataset(ID), np.array([low, high])), [0, 1])
    description = minari.load_dataset(written[1].dataset_id).storage.metadata["description"]
    assert description == "Mine."


def test_reference_scores_are_those_of_random_actions_and_the_highest_command():
    model = trained()
    write_datasets(model, ID, PENDULUM, levels=[0.0], n_steps=10, n_eval_episodes=4)
    metadata = minari.load_dataset(ID).storage.metadata
    env, best = gym.make(PENDULUM), model.generate_policy(model.command_range[1])
    space = env.action_space
    space.seed(0)
    for name, act in (
        ("ref_min_score", lambda observation: space.sample()),
        ("ref_max_score", lambda observation: best.predict(observation, deterministic=True)[0]),
    ):
        returns = []
        for number in range(4):
            observation, _ = env.reset(seed=recording.seed_of(0, name, number))
            returns.append(0.0)
            done = False
            while not done:
                observation, reward, terminated, truncated, _ = env.step(act(observation))
                returns[-1] += reward
                done = terminated or truncated
        assert metadata[name] == pytest.approx(np.mean(returns))


def test_returns_beyond_those_seen_are_warned_of():
    with pytest.warns(UserWarning, match=r"command 1e\+06 lies outside the returns seen"):
        (written,) = write_datasets(trained(), ID, PENDULUM, returns=[1e6], n_steps=10, n_eval_episodes=1)
    assert (written.dataset_id, written.share, written.command) == (ID, None, 1e6)
    assert "level" not in contents(ID)[1][0]
    assert contents(ID)[2]["description"].startswith("Noise-free policies that one GoGePo generated for the return: 1e+06")


@pytest.mark.filterwarnings(WITHOUT_SPEC)
def test_an_env_of_ones_own_and_its_spaces():
    model = trained(ConstantObs(low=-3.0, high=1.0))
    with pytest.warns(UserWarning, match=r"env cannot be made again from the dataset: it has no spec"):
        write_datasets(model, "own-v0", ConstantObs(low=-3.0, high=1.0), levels=[1.0], n_steps=3, n_eval_episodes=1)
    dataset = minari.load_dataset("own-v0")
    assert dataset.action_space == model.action_space
    assert dataset[0].observations.shape == (4, 1)


def test_seeds():
    model = trained()
    write_datasets(model, "a-v0", PENDULUM, **FEW)
    write_datasets(model, "b-v0", PENDULUM, **FEW)
    write_datasets(model, "c-v0", PENDULUM, **FEW, seed=1)
    assert contents("a-v0")[:2] == contents("b-v0")[:2]
    assert contents("a-v0")[1][0]["seed"] != contents("c-v0")[1][0]["seed"]


# ------------------------------------------------------------------ stopped runs


class Stopped(BaseException):
    """As KeyboardInterrupt, but pytest goes on."""


@pytest.fixture
def stop_after(monkeypatch):
    """``stop_after(n)``: the n-th episode from now raises. Returns the list of episodes run since."""

    def patch(n):
        ran = []

        def run(env, act, seed):
            if len(ran) == n:
                raise Stopped
            ran.append(seed)
            return recording.run_episode(env, act, seed)

        monkeypatch.setattr(writing, "run_episode", run)
        return ran

    return patch


def test_a_stopped_run_goes_on_and_gives_the_same_data(stop_after, monkeypatch, datasets_path):
    monkeypatch.setattr(recording, "PART_STEPS", 20)
    model = trained()
    all_seeds = stop_after(None)
    write_datasets(model, ID, PENDULUM, **FEW)
    names = list(minari.list_local_datasets())
    uninterrupted = {name: contents(name) for name in names}
    for name in names:
        minari.delete_dataset(name)
    ran = []
    while True:  # stops every 7 episodes, which is in all levels and in the reference scores
        before = len(ran)
        last = stop_after(7)
        try:
            write_datasets(model, ID, PENDULUM, **FEW)
            break
        except Stopped:
            assert not minari.list_local_datasets()
            ran += last
            assert before < len(ran) < 20 * len(all_seeds)
    assert len(ran) > 7
    assert {name: contents(name) for name in names} == uninterrupted
    assert not list(datasets_path.rglob(".*"))


def test_complete_episodes_are_not_run_again(stop_after, monkeypatch):
    monkeypatch.setattr(recording, "PART_STEPS", 1)  # a part an episode
    model = trained()
    first = stop_after(4)
    with pytest.raises(Stopped):
        write_datasets(model, ID, PENDULUM, **FEW)
    second = stop_after(None)
    write_datasets(model, ID, PENDULUM, **FEW)
    assert not set(first) & set(second)


def test_a_run_stopped_while_datasets_appear_goes_on(monkeypatch, datasets_path):
    model = trained()
    replace, moved = os.replace, []

    def stop(source, target):
        if str(source).find(writing.WHOLE) >= 0:
            if len(moved) == 2:
                raise Stopped
            moved.append(target)
        replace(source, target)

    monkeypatch.setattr(assembly.os, "replace", stop)
    with pytest.raises(Stopped):
        write_datasets(model, ID, PENDULUM, **FEW)
    assert len(minari.list_local_datasets()) == 2
    with pytest.raises(ValueError, match=r"dataset_id must be a new one"):  # they are those of another run
        write_datasets(model, ID, PENDULUM, **FEW, seed=1)
    monkeypatch.setattr(assembly.os, "replace", replace)
    write_datasets(model, ID, PENDULUM, **FEW)
    assert len(minari.list_local_datasets()) == 4
    assert not list(datasets_path.rglob(".*"))


def test_an_unfinished_run_of_other_settings_is_not_gone_on_with(stop_after):
    model = trained()
    stop_after(3)
    with pytest.raises(Stopped):
        write_datasets(model, ID, PENDULUM, **FEW)
    with pytest.raises(ValueError, match=r"'.*\.gogepo-v0\.unfinished' is of a run that has not ended, with other seed\. Rep"):
        write_datasets(model, ID, PENDULUM, **FEW, seed=3)
    model.policy.normalizer.mean += 1
    with pytest.raises(ValueError, match=r"with other policies\. Repeat that one, or delete the folder"):
        write_datasets(model, ID, PENDULUM, **FEW)


# ------------------------------------------------------------------ what is refused


def test_an_id_that_is_taken(datasets_path):
    model = trained()
    write_datasets(model, ID, PENDULUM, **FEW)
    before = files(datasets_path)
    for id_ in (ID, "pendulum/gogepo-50percent-v0"):
        with pytest.raises(ValueError, match=rf"dataset_id must be a new one, got '{id_}': there is '.*' already"):
            write_datasets(model, id_, PENDULUM, **{**FEW, "levels": [0.5]})
    assert files(datasets_path) == before


class Wider(ConstantObs):
    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(-1, 1, (7,), np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_id": "hopper/gogepo"}, r"dataset_id must be \(namespace/\)name-v\(version\) .*, got 'hopper/gogepo'"),
        ({"dataset_id": "a/../b-v0"}, r"dataset_id must be .*, got 'a/\.\./b-v0'"),
        ({"dataset_id": 3}, r"dataset_id must be .*, got 3"),
        ({"env": "Nowhere-v0"}, r"env must be a Gymnasium env or a registered id, got 'Nowhere-v0'"),
        ({"env": "CartPole-v1"}, r"env must have the observation_space that the model was trained with, Box.*, got Box"),
        ({"env": DummyVecEnv([lambda: gym.make(PENDULUM)])}, r"env must be one Gymnasium env, or an id, got <"),
        ({"n_steps": 0}, r"n_steps must be an integer >= 1, got 0"),
        ({"seed": -1}, r"seed must be an integer >= 0, got -1"),
        ({"n_eval_episodes": 0}, r"n_eval_episodes must be an integer >= 1, got 0"),
        ({"metadata": {"code_permalink": print}}, r"metadata must be a dict of what JSON can hold, got"),
        ({"metadata": 3}, r"metadata must be a dict"),
        ({"levels": [2]}, r"levels must be a number in \[0, 1\], got 2"),
    ],
)
def test_wrong_arguments(changes, message, datasets_path):
    with pytest.raises(ValueError, match=message):
        write_datasets(trained(), **{"dataset_id": ID, "env": PENDULUM, **FEW, **changes})
    assert not datasets_path.exists() or not list(datasets_path.rglob("*"))


def test_models_that_generate_no_policies():
    model = UDRL("MlpPolicy", PENDULUM, **SMALL[UDRL]).learn(20)
    with pytest.raises(ValueError, match=r"model must be one that generates policies, GoGePo or UDRLPG, got UDRL"):
        write_datasets(model, ID, PENDULUM, **FEW)
    with pytest.raises(ValueError, match=r"command_range is known after the first episode"):
        write_datasets(GoGePo("MlpPolicy", PENDULUM, **SMALL[GoGePo]), ID, PENDULUM, **FEW)


class Broken(Seeded):
    def step(self, action):
        observation, reward, *others = super().step(action)
        return observation, reward if self.t < 2 else float("nan"), *others


@pytest.mark.filterwarnings(WITHOUT_SPEC)
def test_numbers_that_are_not_finite():
    with pytest.raises(NonFiniteError, match=r"env must have finite rewards, got NaN or infinity in the episode of seed \d+"):
        write_datasets(trained(Seeded()), ID, Broken(), **FEW)
    assert not minari.list_local_datasets()


def limit_files(n_bytes):
    """No file may grow beyond ``n_bytes``: as if the disk were full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize("n_bytes", [1_000, 12_000], ids=["while recording", "while writing HDF5"])
def test_a_full_disk(n_bytes, tmp_path, datasets_path):
    """In a process of its own: HDF5 keeps files open that it could not write."""
    model = trained()
    model.save(tmp_path / "model.zip")
    words = ["--env", PENDULUM, "--dataset-id", ID, "--levels", "0", "0.5", "1", "--n-steps", "60", "--n-eval-episodes", "3"]
    failed = subprocess.run(
        [sys.executable, "-m", "sb3_gogepo.datasets", str(tmp_path / "model.zip"), *words],
        preexec_fn=lambda: limit_files(n_bytes),
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode
    if failed.returncode > 0:  # HDF5 may crash, which is why there is a look at the free space first
        assert re.search(r"dataset_id cannot be written: '.*unfinished': File too large\. .* goes on", failed.stderr)
    assert not minari.list_local_datasets()
    assert not [name for name in files(datasets_path) if name.endswith(".tmp")]
    write_datasets(model, ID, PENDULUM, **FEW)
    assert len(minari.list_local_datasets()) == 4


def test_too_little_space_for_the_datasets(monkeypatch, datasets_path):
    model = trained()
    usage = shutil.disk_usage(datasets_path.parent)
    with monkeypatch.context() as patch:
        patch.setattr(assembly.shutil, "disk_usage", lambda folder: usage._replace(free=1_000_000))
        with pytest.raises(OSError, match=r"cannot be written: .*: about \d MB are needed, and 1 MB are free\. The "):
            write_datasets(model, ID, PENDULUM, levels=[0.0, 0.5], n_steps=200, n_eval_episodes=1)
    assert not minari.list_local_datasets()
    write_datasets(model, ID, PENDULUM, levels=[0.0, 0.5], n_steps=200, n_eval_episodes=1)
    assert len(minari.list_local_datasets()) == 3


# ------------------------------------------------------------------ command line


def test_command_line(tmp_path, capsys):
    trained().save(tmp_path / "model.zip")
    words = [str(tmp_path / "model.zip"), "--env", PENDULUM, "--n-steps", "6e1", "--n-eval-episodes", "2"]
    main([*words, "--levels", "0", "1", "--dataset-id", ID, "--author", "A B"])
    output = capsys.readouterr()
    assert "asked   achieved" in output.out
    assert f"All levels: {ID}" in output.out
    assert "120/120" in output.err or "step" in output.err  # the progress bar
    assert minari.load_dataset("pendulum/gogepo-100percent-v0").storage.metadata["author"] == {"A B"}


def test_command_line_errors(tmp_path, capsys, stop_after):
    trained().save(tmp_path / "model.zip")
    words = [str(tmp_path / "model.zip"), "--env", PENDULUM, "--n-eval-episodes", "1"]
    for more, message in (
        (["--dataset-id", ID, "--levels", "1.5"], "levels must be a number in [0, 1], got 1.5"),
        (["--dataset-id", ID, "--levels", "0.5", "--returns", "3"], "not allowed with argument --levels"),
        (["--dataset-id", ID, "--env", "CartPole-v1"], "env must have the observation_space"),
        (["--dataset-id", "no version"], "dataset_id must be"),
        (["--dataset-id", ID, "--algo", "udrlpg"], "was saved by GoGePo, not by UDRLPG"),
    ):
        with pytest.raises(SystemExit):
            main([*words, *more])
        assert message in capsys.readouterr().err

    def interrupt(*args):
        raise KeyboardInterrupt

    stop_after(0)
    writing.run_episode = interrupt  # undone by stop_after's monkeypatch
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--dataset-id", ID])
    assert stopped.value.code == 130
    assert "The same command goes on from here." in capsys.readouterr().err
