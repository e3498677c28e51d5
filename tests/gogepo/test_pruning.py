"""Warming up, and episodes that end early."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import ConvertCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_gogepo import GoGePo
from sb3_gogepo.base.callbacks import ResumableCheckpointCallback
from sb3_gogepo.rollouts.pruning import PRUNED
from tests.helpers import assert_same_result, record_logs
from tests.toy_envs import ConstantObs, Seeded

LENGTH = 8


class Even(Seeded):
    """All episodes last equally long."""

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        self.length = LENGTH
        return observation, info


@pytest.fixture
def tiny(tiny):
    return {**tiny, "prune_after": 0.25, "buffer_size": 1000}


def actions_of(model):
    """(n_stored,) what each stored policy does in ConstantObs, whose observation is always 1."""
    weights = th.stack(model.replay_buffer.policy_weights)
    hidden, output = model.policy.layout.split(weights)
    activation = model.policy.activation
    features = activation(hidden.weight.sum(dim=2) + hidden.bias)  # one observation, 1
    return th.tanh(th.einsum("nok,nk->no", output.weight, features) + output.bias).squeeze(1).numpy()


@pytest.mark.parametrize("alive_bonus_offset", [0.0, -0.5])
def test_pruned_episodes_are_stored_with_an_estimate(alive_bonus_offset, make_model):
    """Rewards are the same in every step, so that the estimate is right: what the episode would have earned."""
    model = make_model(ConstantObs(LENGTH), alive_bonus_offset=alive_bonus_offset, normalize_observations=False)
    logs = record_logs(model)
    model.learn(300, log_interval=1)
    buffer = model.replay_buffer
    assert model.num_timesteps < 0.8 * LENGTH * len(buffer)  # so that some were pruned
    np.testing.assert_allclose(buffer.stored_returns, LENGTH * (actions_of(model) + alive_bonus_offset), rtol=1e-4, atol=1e-4)
    rates = [entry["rollout/prune_rate"] for _, entry in logs.entries if "rollout/prune_rate" in entry]
    assert 0 < np.mean(rates) < 1
    assert rates[0] == 0  # there are no ten best episodes yet
    assert buffer.best_episodes.return_curves.shape == (10, LENGTH)
    best = buffer.best_episodes.return_curves[:, -1] + LENGTH * alive_bonus_offset
    assert best.tolist() == sorted(buffer.stored_returns, reverse=True)[:10]
    assert model.best_return == best[0]
    # What is logged knows of them, too, though Monitors do not; without the alive bonus offset
    logged = [info["r"] + LENGTH * alive_bonus_offset for info in model.ep_info_buffer]
    np.testing.assert_allclose(sorted(logged), sorted(buffer.stored_returns), rtol=1e-4, atol=1e-4)
    assert {info["l"] for info in model.ep_info_buffer} == {LENGTH}


def test_without_a_monitor_pruned_episodes_alone_are_not_logged(make_model):
    model = make_model(DummyVecEnv([lambda: ConstantObs(LENGTH)])).learn(300)
    assert model.num_timesteps < LENGTH * len(model.replay_buffer)
    assert len(model.ep_info_buffer) == 0


@pytest.mark.parametrize("alive_bonus_offset", [0.0, -0.1, -0.3, 0.1])
def test_who_does_as_well_as_the_best_is_not_pruned(alive_bonus_offset, make_model):
    """No rounding error makes them worse: the reward is -1 at each of 100 steps, whatever is done."""

    class Costly(ConstantObs):
        def step(self, action):
            observation, _, *others = super().step(action)
            return observation, -1.0, *others

    model = make_model(Costly(100), alive_bonus_offset=alive_bonus_offset).learn(3000)
    assert len(model.replay_buffer) == 30


def test_none_is_pruned_if_not_wanted(make_model):
    model = make_model(ConstantObs(LENGTH), prune_after=None)
    logs = record_logs(model)
    model.learn(300, log_interval=1)
    assert model.num_timesteps == LENGTH * len(model.replay_buffer)
    assert not any("rollout/prune_rate" in entry for _, entry in logs.entries)


def test_none_is_pruned_where_episodes_differ_in_length(make_model):
    models = [make_model(Seeded(), prune_after=prune_after).learn(200) for prune_after in (0.25, None)]
    assert models[0].replay_buffer.best_episodes.lengths_differ
    models[1].replay_buffer.best_episodes = models[0].replay_buffer.best_episodes  # without pruning there are none
    assert_same_result(*models)


def test_results_do_not_depend_on_who_runs_the_episodes(make_model):
    one, four, workers = (
        make_model(make_vec_env(Even, n_envs), n_candidates=4, **kwargs).learn(200)
        for n_envs, kwargs in [(1, {}), (4, {}), (1, dict(rollout_backend="subprocess", rollout_workers=2))]
    )
    pruned, whole = (
        make_model(make_vec_env(Even, 1), n_candidates=4, probe_fraction=0.0, **kwargs).learn(200)
        for kwargs in ({}, dict(prune_after=None))
    )
    assert len(pruned.replay_buffer) > len(whole.replay_buffer)
    assert_same_result(one, four)
    assert_same_result(one, workers)


def test_a_run_that_prunes_goes_on_exactly(make_model, tmp_path):
    whole = make_model(Even()).learn(200)
    first = make_model(Even())
    stop = ConvertCallback(lambda scope, _: first.num_timesteps < 120)
    first.learn(200, callback=[ResumableCheckpointCallback(20, tmp_path), stop])
    second = GoGePo.load_checkpoint(tmp_path, Even())
    assert len(second.replay_buffer.best_episodes.return_curves) == 10
    second.learn(200 - second.num_timesteps, reset_num_timesteps=False)
    assert_same_result(second, whole)


def test_buffers_saved_without_return_curves_can_be_loaded(make_model, tmp_path):
    model = make_model(ConstantObs(LENGTH)).learn(200)
    state = model.replay_buffer.state_dict()
    for key in ("return_curves", "lengths_differ"):
        del state[key]
    model.replay_buffer.load_state_dict(state)
    assert not len(model.replay_buffer.best_episodes.return_curves)
    model.learn(100)


def test_warming_up(make_model):
    model = make_model(
        ConstantObs(),
        n_warm_up_episodes=4,
        first_command=0.25,
        n_candidates=2,
        train_freq=(1, "episode"),
        weight_noise_std=3.0,
    )
    assert model.is_warming_up
    model.learn(400)
    assert not model.is_warming_up
    assert (model.replay_buffer.commands[:4] == 0.25).all()
    assert (model.replay_buffer.commands[4:6] != 0.25).all()
    n_trained = model._episode_num - 2  # the third and fourth episode end the warming up: two rounds are made then
    assert model._n_updates == n_trained


@pytest.mark.parametrize(("total", "noise_steps"), [(90, 250_000), (90, None), (900, 90)])
def test_warming_up_takes_a_tenth_of_the_steps_in_which_the_noise_falls(total, noise_steps, make_model):
    """9 steps are 3 episodes."""
    model = make_model(
        ConstantObs(), n_warm_up_episodes=1000, first_command=0.25, weight_noise_steps=noise_steps, train_freq=(1, "episode")
    )
    seen = []
    model.learn(total, callback=lambda scope, _: seen.append((model.num_timesteps, model._n_updates)) is None)
    assert [n_updates for steps, n_updates in seen if steps <= 9] == [0] * 9
    assert dict(seen)[10] == 1


def test_there_is_no_second_warming_up(make_model, tmp_path):
    model = make_model(ConstantObs(), n_warm_up_episodes=1000).learn(50)
    assert model._n_updates > 0
    model.save(tmp_path / "model")
    loaded = GoGePo.load(tmp_path / "model", env=ConstantObs())
    loaded.learn(3_000, callback=lambda scope, _: scope["self"].num_timesteps < 100)
    assert not loaded.is_warming_up
    assert loaded._n_updates > model._n_updates


class ResetWith(gym.Wrapper):
    """Passes keywords to each reset."""

    def __init__(self, env, **keywords):
        super().__init__(env)
        self.keywords = keywords

    def reset(self, **kwargs):
        return self.env.reset(**kwargs, **self.keywords)


class Informed(ConstantObs):
    """Tells the action at each step, and at the end whether it was a success."""

    def reset(self, *, seed=None, options=None, level=0):
        return super().reset(seed=seed, options=options)

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        info["action"] = float(action[0])
        return observation, reward, terminated, truncated, {**info, **({"is_success": True} if terminated else {})}


@pytest.mark.parametrize("vec_env_cls", [DummyVecEnv, SubprocVecEnv])
def test_records_of_pruned_episodes_are_complete(vec_env_cls, make_model):
    """As Monitor's, its keywords and those of the reset included; what only the end of an episode tells is NaN."""

    def make_env():
        env = Monitor(Informed(LENGTH), info_keywords=("action", "is_success"), reset_keywords=("level",))
        return ResetWith(env, level=3)

    env, records = vec_env_cls([make_env]), []

    def on_step(seen, _):
        records.extend(info for info in seen["infos"] if "episode" in info)
        return True

    model = make_model(env).learn(300, on_step)
    env.close()
    pruned = [info["episode"] for info in records if PRUNED in info]
    assert len(pruned) > 5
    assert len(model.ep_info_buffer) == len(records)
    for record in model.ep_info_buffer:
        assert record.keys() == {"r", "l", "t", "action", "is_success", "level"}
        assert record["level"] == 3
        assert record["r"] == pytest.approx(LENGTH * record["action"], abs=1e-4)
    assert np.isnan([record["is_success"] for record in pruned]).all()
    assert np.isfinite([info["episode"]["is_success"] for info in records if PRUNED not in info]).all()
