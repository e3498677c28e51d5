"""Checkpoints: what is in them, when they are made, and that a run goes on from them exactly."""

import os
import random
import signal

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from benchmarks.reliability.runs import fingerprint
from sb3_gogepo import GPIM, InvalidFileError, ResumableCheckpointCallback, latest_checkpoint
from sb3_gogepo.gpim import Navigation2D
from sb3_gogepo.saving import checkpoints
from tests.helpers import assert_same_result
from tests.toy_envs import Seeded

FILES = {"model.zip", "replay_buffer.pkl", "run_state.pt"}


class Do(BaseCallback):
    """Calls a function at a certain env step."""

    def __init__(self, at, function):
        super().__init__()
        self.at, self.function = at, function

    def _on_step(self):
        if self.at is not None and self.num_timesteps >= self.at:
            self.at = None
            return self.function(self.model) is not False
        return True


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def make_env(n_envs, normalize=False):
    env = make_vec_env(Seeded, n_envs)
    return VecNormalize(env) if normalize else env


def assert_same_run(one, two):
    assert fingerprint(one) == fingerprint(two)


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "VecNormalize"])
@pytest.mark.parametrize("n_candidates", [None, 4])
@pytest.mark.parametrize("n_envs", [1, 4])
def test_a_run_goes_on_exactly(n_envs, n_candidates, normalize, make_model, algorithm, tmp_path):
    np.random.seed(3)
    whole = make_model(make_env(n_envs, normalize), n_candidates=n_candidates).learn(120)
    expected = fingerprint(whole)

    np.random.seed(3)
    first = make_model(make_env(n_envs, normalize), n_candidates=n_candidates)
    callback = [ResumableCheckpointCallback(20, tmp_path), Do(70, lambda model: False)]
    first.learn(120, callback=callback)
    np.random.seed()
    th.manual_seed(99)
    random.seed(99)
    second = algorithm.load_checkpoint(tmp_path, make_env(n_envs, normalize))
    assert 0 < second.num_timesteps <= 70
    second.learn(120 - second.num_timesteps, reset_num_timesteps=False)
    assert fingerprint(second) == expected


@pytest.mark.parametrize("order", [(VecMonitor, VecNormalize), (VecNormalize, VecMonitor)], ids=["inside", "outside"])
def test_a_run_under_vec_monitor_and_vec_normalize_goes_on_exactly(order, make_model, algorithm, tmp_path):
    """The reset that only the VecMonitor needs is not seeded: no statistics may depend on it."""

    def make_env():
        inner, outer = order
        return outer(inner(DummyVecEnv([Seeded] * 2)))

    whole = make_model(make_env()).learn(60)
    make_model(make_env()).learn(30).save_checkpoint(tmp_path)
    resumed = algorithm.load_checkpoint(tmp_path, make_env())
    resumed.learn(60 - resumed.num_timesteps, reset_num_timesteps=False)
    assert_same_result(resumed, whole)


def test_a_seed_makes_it_go_on_otherwise(make_model, algorithm, tmp_path):
    make_model().learn(60).save_checkpoint(tmp_path)

    def go_on(**kwargs):
        return algorithm.load_checkpoint(tmp_path, Seeded(), **kwargs).learn(60, reset_num_timesteps=False)

    assert_same_run(go_on(seed=7), go_on(seed=7))
    assert fingerprint(go_on(seed=7)) != fingerprint(go_on())


def test_a_finished_run_comes_back_as_it_was(make_model, algorithm, tmp_path):
    whole = make_model(make_env(2, normalize=True)).learn(60, callback=ResumableCheckpointCallback(20, tmp_path))
    assert_same_run(algorithm.load_checkpoint(tmp_path, make_env(2, normalize=True)), whole)


def test_files_saved_during_episodes_hold_the_last_boundary(make_model, algorithm, tmp_path):
    """SB3's CheckpointCallback saves at any env step."""
    whole = make_model().learn(60)
    callback = CheckpointCallback(1, str(tmp_path), name_prefix="m", save_replay_buffer=True)
    make_model().learn(60, callback=callback)
    for steps in (20, 21, 22, 23):
        model = algorithm.load(tmp_path / f"m_{steps}_steps.zip", env=Seeded())
        model.load_replay_buffer(tmp_path / f"m_replay_buffer_{steps}_steps.pkl")
        assert model.num_timesteps <= steps
        model.learn(60 - model.num_timesteps, reset_num_timesteps=False)
        assert_same_run(model, whole)


def test_contents_and_number_of_checkpoints(make_model, tmp_path):
    model = make_model()
    for i in range(4):
        model.num_timesteps = 10 * i
        model.save_checkpoint(tmp_path, keep_last=3)
    assert names(tmp_path) == ["checkpoint_000002_10_steps", "checkpoint_000003_20_steps", "checkpoint_000004_30_steps"]
    assert set(names(tmp_path / "checkpoint_000003_20_steps")) == FILES
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint_000004_30_steps"


def test_one_of_several_checkpoints_can_be_chosen(make_model, algorithm, tmp_path):
    model = make_model()
    for i in range(2):
        model.num_timesteps = i
        model.save_checkpoint(tmp_path)
    assert algorithm.load_checkpoint(tmp_path, Seeded()).num_timesteps == 1
    assert algorithm.load_checkpoint(tmp_path / "checkpoint_000001_0_steps", Seeded()).num_timesteps == 0


def test_no_checkpoint(algorithm, tmp_path):
    assert latest_checkpoint(tmp_path / "nothing") is None
    with pytest.raises(FileNotFoundError, match="there is no checkpoint in"):
        algorithm.load_checkpoint(tmp_path, Seeded())


@pytest.mark.parametrize("step", ["save", "save_replay_buffer", "rename"])
def test_a_failing_checkpoint_leaves_the_old_one(step, make_model, algorithm, tmp_path, monkeypatch):
    model = make_model().learn(20)
    model.save_checkpoint(tmp_path, keep_last=1)
    before = names(tmp_path)

    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints.Path if step == "rename" else algorithm, step, fail)
    with pytest.raises(OSError, match="disk full"):
        model.save_checkpoint(tmp_path, keep_last=1)
    assert names(tmp_path) == before
    monkeypatch.undo()
    assert_same_run(algorithm.load_checkpoint(tmp_path, Seeded()), model)


def test_half_written_checkpoints_are_not_seen_and_swept(make_model, tmp_path):
    (tmp_path / ".checkpoint_abc").mkdir()
    (tmp_path / ".checkpoint_abc" / "model.zip").write_bytes(b"half")
    assert latest_checkpoint(tmp_path) is None
    make_model().learn(10, callback=ResumableCheckpointCallback(1000, tmp_path))
    assert names(tmp_path) == ["checkpoint_000001_10_steps"] or len(names(tmp_path)) == 1
    assert not (tmp_path / ".checkpoint_abc").exists()


def test_checkpoints_of_another_run_are_not_overwritten(make_model, tmp_path):
    make_model().learn(50, callback=ResumableCheckpointCallback(20, tmp_path))
    before = names(tmp_path)
    with pytest.raises(
        ValueError, match=r"save_path holds 'checkpoint_.*_steps', but the model has made 0 env steps: load it"
    ):
        make_model().learn(50, callback=ResumableCheckpointCallback(20, tmp_path))
    assert names(tmp_path) == before


@pytest.mark.parametrize(("argument", "value"), [("save_freq", 0), ("save_freq", 1.5), ("keep_last", 0)])
def test_wrong_arguments(argument, value, tmp_path):
    arguments = {"save_freq": 10, "save_path": tmp_path, argument: value}
    with pytest.raises(ValueError, match=f"{argument} must be an integer >= 1, got {value}"):
        ResumableCheckpointCallback(**arguments)


def test_other_algorithms_are_refused(tmp_path):
    """GPIM, too, whose learner makes no episode boundaries to save."""
    for model in (
        PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu"),
        GPIM("MultiInputPolicy", Navigation2D(horizon=10), seed=0),
    ):
        with pytest.raises(ValueError, match=f"works with GoGePo, UDRLPG and UDRL, got {type(model).__name__}"):
            model.learn(8, callback=ResumableCheckpointCallback(8, tmp_path))


@pytest.mark.parametrize("at", [1, 33])
def test_sigterm_leaves_a_checkpoint_and_goes_to_the_old_handler(at, make_model, algorithm, tmp_path):
    whole = make_model().learn(60)
    received = []
    old = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        model = make_model()
        callback = [ResumableCheckpointCallback(10**6, tmp_path), Do(at, lambda model: os.kill(os.getpid(), signal.SIGTERM))]
        model.learn(60, callback=callback)
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, old)
    assert model.num_timesteps <= at + 1
    resumed = algorithm.load_checkpoint(tmp_path, Seeded())
    resumed.learn(60 - resumed.num_timesteps, reset_num_timesteps=False)
    assert_same_run(resumed, whole)


def test_a_second_signal_is_handed_on_at_once(make_model, tmp_path):
    received = []
    old = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        callback = ResumableCheckpointCallback(10**6, tmp_path)
        model = make_model()

        def twice(model):
            os.kill(os.getpid(), signal.SIGTERM)
            assert not received
            os.kill(os.getpid(), signal.SIGTERM)
            assert received

        model.learn(30, callback=[Do(5, twice), callback])
    finally:
        signal.signal(signal.SIGTERM, old)


def test_after_an_exception_the_first_signal_is_handed_on(make_model, tmp_path):
    received = []
    old = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with pytest.raises(ZeroDivisionError):
            make_model().learn(30, callback=[ResumableCheckpointCallback(10**6, tmp_path), Do(5, lambda model: 1 / 0)])
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, old)


def test_statistics_of_another_env_are_refused(make_model, algorithm, tmp_path):
    make_model(make_env(1)).save_checkpoint(tmp_path)
    with pytest.raises(InvalidFileError, match="it holds no statistics for the env's VecNormalize"):
        algorithm.load_checkpoint(tmp_path, make_env(1, normalize=True))
