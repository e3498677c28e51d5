from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize
from torch import nn

from sb3_gogepo.networks.action_map import ActionMap
from sb3_gogepo.networks.policy_weights import WeightLayout
from sb3_gogepo.rollouts.rollout import run_episodes
from tests.toy_envs import ConstantObs, Seeded

LINEAR = WeightLayout((1, 1))
UNIT_BOX = spaces.Box(-1, 1, (1,), np.float32)


def identity(observations):
    return observations


def constant_policies(actions):
    """(n_policies, 2) weights of linear policies that always act with these actions."""
    actions = th.tensor(actions)
    return th.stack([th.zeros_like(actions), th.atanh(actions)], dim=1)


def run(env, policy_weights, seeds=None, layout=LINEAR, **kwargs):
    seeds = range(len(policy_weights)) if seeds is None else seeds
    return run_episodes(env, layout, policy_weights, nn.Tanh(), ActionMap(UNIT_BOX), identity, seeds, **kwargs)


def make_dummy(*envs):
    return DummyVecEnv([lambda env=env: env for env in envs])


@pytest.mark.parametrize("n_envs", [1, 2, 3, 7])
def test_each_policy_earns_its_own_return(n_envs):
    """Five policies in fewer, and in more, envs: results come in the policies' order."""
    actions = [0.1, -0.5, 0.9, 0.0, 0.3]
    episodes = run(make_vec_env(ConstantObs, n_envs), constant_policies(actions))
    np.testing.assert_allclose([episode.episode_return for episode in episodes], 3 * np.array(actions), rtol=1e-5, atol=1e-6)
    assert [episode.length for episode in episodes] == [3] * 5


def test_envs_whose_episodes_differ_in_length():
    """The short env takes the waiting policies while the long one is still busy."""
    env = make_dummy(ConstantObs(length=2), ConstantObs(length=6))
    episodes = run(env, constant_policies([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose([episode.episode_return for episode in episodes], [0.2, 1.2, 0.6, 0.8], rtol=1e-5)
    assert [episode.length for episode in episodes] == [2, 6, 2, 2]


def seeded_policies(n=6):
    layout = WeightLayout((2, 3, 1))
    return layout, th.randn(n, layout.n_weights, generator=th.Generator().manual_seed(0))


@pytest.mark.parametrize("n_envs", [2, 4, 9])
def test_results_do_not_depend_on_the_number_of_envs(n_envs):
    layout, policy_weights = seeded_policies()
    kwargs = dict(layout=layout, seeds=range(10, 16), keep_observations=True)
    expected = run(make_vec_env(Seeded, 1, seed=1), policy_weights, **kwargs)
    episodes = run(make_vec_env(Seeded, n_envs, seed=2), policy_weights, **kwargs)
    for one, two in zip(expected, episodes, strict=True):
        assert one.episode_return == two.episode_return
        assert one.length == two.length
        assert np.array_equal(one.observations, two.observations)


def test_observations_are_those_the_policy_acted_on():
    """Of an episode that starts at s: (s, 0), (s, 1), ... without the final one."""
    layout, policy_weights = seeded_policies(3)
    seeds = [5, 6, 7]
    episodes = run(make_vec_env(Seeded, 2), policy_weights, seeds, layout, keep_observations=True)
    for seed, episode in zip(seeds, episodes, strict=True):
        start = Seeded().reset(seed=seed)[0][0]
        assert episode.observations.tolist() == [[start, t] for t in range(episode.length)]


def test_observations_are_not_kept_unasked():
    assert run(make_vec_env(ConstantObs), constant_policies([0.1]))[0].observations is None


def test_each_episode_starts_from_its_own_seed():
    env = Seeded()
    layout, policy_weights = seeded_policies(3)
    run(make_dummy(env), policy_weights, [5, 6, 7], layout)
    assert [seed for seed in env.seeds if seed is not None] == [5, 6, 7]


@pytest.mark.parametrize("n_envs", [1, 2])
def test_on_step_counts_every_step_that_counts(n_envs):
    env = make_vec_env(lambda: Monitor(Seeded()), n_envs)
    layout, policy_weights = seeded_policies()
    calls = []

    def on_step(step):
        assert n_envs == len(step.infos) == len(step.dones) == len(step.rewards)
        calls.append((step.n_active, [info["episode"] for info, done in zip(step.infos, step.dones, strict=True) if done]))
        return True

    episodes = run(env, policy_weights, layout=layout, on_step=on_step)
    assert sum(n_steps for n_steps, _ in calls) == sum(episode.length for episode in episodes)
    assert 1 <= min(n_steps for n_steps, _ in calls) <= max(n_steps for n_steps, _ in calls) == n_envs
    # Monitor's statistics: one entry an episode, the idle envs' none
    monitored = sorted((info["l"], info["r"]) for _, infos in calls for info in infos)
    expected = sorted((episode.length, episode.episode_return) for episode in episodes)
    np.testing.assert_allclose(monitored, expected, atol=1e-5)


def test_idle_envs_do_not_count():
    lengths = []
    env = make_dummy(ConstantObs(length=2), ConstantObs(length=5))
    run(env, constant_policies([0.1, 0.2]), on_step=lambda step: lengths.append(step.n_active) or True)
    assert lengths == [2, 2, 1, 1, 1]


@pytest.mark.parametrize("stop_at", [1, 4])
def test_on_step_false_stops_at_once(stop_at):
    calls = []

    def on_step(*_):
        calls.append(None)
        return len(calls) < stop_at

    assert run(make_vec_env(ConstantObs), constant_policies([0.1, 0.2, 0.3]), on_step=on_step) is None
    assert len(calls) == stop_at


def test_returns_under_vec_normalize_are_raw():
    venv = make_vec_env(ConstantObs, 2)
    env = VecNormalize(venv, norm_obs=True, norm_reward=True)
    episodes = run(env, constant_policies([0.5, -0.2, 0.1]))
    np.testing.assert_allclose([episode.episode_return for episode in episodes], [1.5, -0.6, 0.3], rtol=1e-5)


def test_vec_normalize_observations_reach_the_policy():
    """From the first step on, the one after a seeded reset included."""
    env = VecNormalize(make_vec_env(Seeded, 1), norm_obs=True, training=False)
    env.obs_rms.mean, env.obs_rms.var = np.array([100.0, 0.0]), np.array([4.0, 1.0])
    layout, policy_weights = seeded_policies(2)
    for episode in run(env, policy_weights, layout=layout, keep_observations=True):
        np.testing.assert_allclose(episode.observations[:, 0], -10.0)  # VecNormalize clips at 10


def test_wrappers_that_must_see_resets_still_work():
    """Frame stacks start empty in each episode."""
    env = VecFrameStack(make_vec_env(Seeded, 2), n_stack=2)
    layout = WeightLayout((4, 1))
    episodes = run(env, th.zeros(5, layout.n_weights), layout=layout, keep_observations=True)
    assert len(episodes) == 5
    for episode in episodes:
        assert episode.observations[0, :2].tolist() == [0, 0]  # no frame of the episode before
        assert np.array_equal(episode.observations[1:, :2], episode.observations[:-1, 2:])


def test_vec_monitor_statistics_start_anew_with_each_call():
    """What an idle env did between two calls is in nobody's statistics."""
    infos = []

    def on_step(step):
        infos.extend(info["episode"] for info, done in zip(step.infos, step.dones, strict=True) if done)
        return True

    env = VecMonitor(make_dummy(ConstantObs(length=2), ConstantObs(length=5)))
    for _ in range(2):
        run(env, constant_policies([0.5, 0.5]), on_step=on_step)
    assert [info["l"] for info in infos] == [2, 5, 2, 5]


def test_observations_are_copied():
    """A VecEnv may write each observation into the same array."""

    class Reusing(DummyVecEnv):
        def _obs_from_buf(self):
            return self.buf_obs[None]

    layout, policy_weights = seeded_policies(2)
    kwargs = dict(layout=layout, keep_observations=True)
    expected = run(make_vec_env(Seeded, 1), policy_weights, **kwargs)
    for one, two in zip(expected, run(Reusing([Seeded]), policy_weights, **kwargs), strict=True):
        assert np.array_equal(one.observations, two.observations)


def test_what_infos_hold_is_copied():
    """An env may go on changing what it has put into its info."""

    class Counting(ConstantObs):
        seen: ClassVar[list[int]] = []

        def step(self, action):
            observation, reward, terminated, truncated, _ = super().step(action)
            self.seen.append(len(self.seen))
            return observation, reward, terminated, truncated, {"n": len(self.seen), "seen": self.seen}

    infos = []
    run(make_dummy(Counting()), constant_policies([0.5]), on_step=lambda step: infos.extend(step.infos) or True)
    assert len(infos) > 1
    assert all(info["seen"] == list(range(info["n"])) for info in infos)


ASYMMETRIC = spaces.Box(np.array([-1.0, 0.0, 10.0], np.float32), np.array([3.0, 0.5, 10.0], np.float32))


def test_box_actions_by_hand():
    action_map = ActionMap(ASYMMETRIC)
    actions = action_map.to_env(np.array([[0.0, 0.0, 0.0], [100.0, 100.0, 100.0], [-100.0, -100.0, -100.0]], np.float32))
    assert actions.tolist() == [[1.0, 0.25, 10.0], [3.0, 0.5, 10.0], [-1.0, 0.0, 10.0]]
    assert actions.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_box_actions_stay_within_any_bounds(dtype):
    rng = np.random.default_rng(0)
    low = rng.normal(scale=10, size=1000).astype(dtype)
    space = spaces.Box(low, low + rng.exponential(size=1000).astype(dtype), dtype=dtype)
    for outputs in (np.full((1, 1000), 50.0, np.float32), np.full((1, 1000), -50.0, np.float32)):
        assert space.contains(ActionMap(space).to_env(outputs)[0])


def test_huge_bounds_do_not_overflow():
    largest = np.finfo(np.float32).max
    action_map = ActionMap(spaces.Box(-largest, largest, (1,), np.float32))
    assert action_map.to_env(np.array([[0.0]], np.float32)).tolist() == [[0.0]]
    assert np.isfinite(action_map.to_env(np.array([[50.0]], np.float32))).all()


def test_box_shape_is_kept():
    space = spaces.Box(-1, 1, (2, 3), np.float32)
    action_map = ActionMap(space)
    assert action_map.n_outputs == 6
    assert action_map.to_env(np.arange(12, dtype=np.float32).reshape(2, 6)).shape == (2, 2, 3)


def test_squash_in_env_units():
    action_map = ActionMap(ASYMMETRIC)
    outputs = th.randn(4, 3)
    th.testing.assert_close(action_map.squash(outputs), th.tanh(outputs))
    np.testing.assert_allclose(
        action_map.squash_to_env_units(outputs), action_map.to_env(outputs.numpy()), rtol=1e-5, atol=1e-6
    )


def test_discrete_actions_are_the_largest_logits():
    action_map = ActionMap(spaces.Discrete(3, start=5))
    outputs = np.array([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, -2.0, 1.0]], np.float32)
    assert action_map.n_outputs == 3
    assert action_map.to_env(outputs).tolist() == [6, 5, 7]
    assert action_map.choose(th.from_numpy(outputs)).tolist() == [6, 5, 7]
    assert np.array_equal(action_map.squash(th.from_numpy(outputs)), outputs)


def test_discrete_actions_reach_the_env_as_it_expects_them():
    class Recording(gym.ActionWrapper):
        def action(self, action):
            assert self.action_space.contains(action)
            taken.append(int(action))
            return action

    taken = []
    env = make_dummy(Recording(gym.make("CartPole-v1")))
    layout = WeightLayout((4, 2))
    policy_weights = th.zeros(2, layout.n_weights)
    policy_weights[0, -1], policy_weights[1, -2] = 1.0, 1.0
    first, second = run_episodes(env, layout, policy_weights, nn.Tanh(), ActionMap(env.action_space), identity, [0, 1])
    assert taken == [1] * first.length + [0] * second.length
    assert first.episode_return == first.length
