"""GoGePo(rerun_fraction=...): returns that can be expected, where a single one may be luck."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_gogepo import GoGePo
from sb3_gogepo.buffers.policy_buffer import RERUN
from tests.conftest import SMALL
from tests.helpers import record_logs
from tests.toy_envs import ConstantObs, Seeded


class Lottery(gym.Env):
    """One step; the return is drawn at reset, from N(0, 1), whatever is done."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.prize = float(self.np_random.standard_normal())
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), self.prize, True, False, {}


def make(env, **overrides):
    arguments = {**SMALL[GoGePo], "probe_fraction": 0.0, "buffer_size": 1000, "train_freq": (20, "episode"), **overrides}
    return GoGePo("MlpPolicy", env, **{"rerun_fraction": 0.3, **arguments})


def n_reruns(model):
    return int((model.replay_buffer.n_runs - 1).sum())


def test_best_return_of_a_lottery_is_what_it_earns():
    model = make(Lottery()).learn(400)
    assert 60 < n_reruns(model) < 180
    assert model.replay_buffer.measured_luck().share > 0.7
    assert model.best_return < 0.6
    assert model.command_range[1] == model.best_return
    record = make(Lottery(), rerun_fraction=0.0).learn(400)
    assert record.best_return > 2


def test_nobody_is_run_again_where_nothing_is_luck():
    model = make(ConstantObs(length=1)).learn(400)
    assert 0 < n_reruns(model) < 15
    assert model.best_return == model.replay_buffer.stored_returns.max()


def test_the_best_run_again_as_they_are_stored():
    model = make(Seeded(), fold_normalization=False).learn(100)
    buffer = model.replay_buffer
    seen = []
    model.next_kinds = lambda n: np.full(n, RERUN)
    candidates = model.propose_candidates(3)
    for weights, command, serial in zip(candidates.policy_weights, candidates.commands, candidates.serials, strict=True):
        assert th.equal(weights, buffer.policy_weights[serial])
        seen.append(command)
        assert command == buffer.expected_returns[serial]
    assert seen == sorted(buffer.expected_returns)[::-1][:3]
    assert len(set(candidates.seeds)) == 3


def test_log_shows_the_luck_and_the_best_episode():
    model = make(Lottery())
    recorder = record_logs(model)
    model.learn(200, log_interval=1)
    last = recorder.entries[-1][1]
    assert last["train/best_episode_return"] == model.best_episode_return > 2 * last["train/best_return"]
    assert last["train/luck"] == model.replay_buffer.measured_luck().share


def test_results_do_not_depend_on_the_number_of_envs():
    models = [make(DummyVecEnv([Seeded] * n), n_candidates=3, train_freq=(3, "episode")).learn(600) for n in (1, 4)]
    a, b = (model.replay_buffer.state_dict() for model in models)
    assert n_reruns(models[0]) > 5
    assert all(th.equal(a[name], b[name]) for name in ("policy_weights", "returns", "n_runs", "deviations"))


def test_resumed_run_equals_an_uninterrupted_one(tmp_path):
    half = make(Seeded()).learn(300)
    half.save(tmp_path / "model")
    half.save_replay_buffer(tmp_path / "buffer")
    resumed = GoGePo.load(tmp_path / "model", env=Seeded())
    resumed.load_replay_buffer(tmp_path / "buffer")
    whole = make(Seeded()).learn(300)
    for model in (resumed, whole):
        model.learn(300, reset_num_timesteps=False)
    a, b = (model.replay_buffer.state_dict() for model in (resumed, whole))
    assert n_reruns(whole) > n_reruns(half) > 3
    assert all(th.equal(a[name], b[name]) for name in ("policy_weights", "returns", "n_runs", "deviations"))
    assert resumed.best_return == whole.best_return


@pytest.mark.parametrize("value", [-0.1, 1.5, "half", float("nan")])
def test_bad_rerun_fraction(value):
    with pytest.raises(ValueError, match="rerun_fraction"):
        make(Seeded(), rerun_fraction=value)
