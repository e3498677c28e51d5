import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize
from torch import nn

from sb3_gogepo.networks.action_map import ActionMap
from sb3_gogepo.networks.policy_weights import WeightLayout
from sb3_gogepo.rollouts.pruning import BestEpisodes, full_return
from sb3_gogepo.rollouts.rollout import PolicyActors, run_actors
from tests.toy_envs import ConstantObs, Seeded

NONE = -np.inf


def seen(*curves, n_episodes=2):
    best = BestEpisodes(n_episodes)
    for curve in curves:
        best.add(np.array(curve, dtype=float))
    return best


def test_lowest_returns_by_hand():
    """Best curves end at 8 and 6; the third is worse. At an even rate 6 is 1.5 a step."""
    best = seen([2, 4, 6, 8], [0, 0, 0, 3], [3, 4, 5, 6])
    assert best.return_curves.tolist() == [[2, 4, 6, 8], [3, 4, 5, 6]]
    # at an even rate: 1.5, 3, 4.5; the best had at least 2, 4, 5
    assert best.lowest_returns(0.25).tolist() == [NONE, 1.5, 3, 4.5, NONE]
    assert best.lowest_returns(0.5).tolist() == [NONE, NONE, 3, 4.5, NONE]
    assert best.lowest_returns(0.51).tolist() == [NONE, NONE, NONE, 4.5, NONE]
    assert best.lowest_returns(1.0).tolist() == [NONE] * 5
    assert best.lowest_returns(0.0).tolist() == [NONE, 1.5, 3, 4.5, NONE]
    assert full_return(3.0, 2, len(best.lowest_returns(0.25)) - 1) == 6


def test_who_starts_slowly_as_the_best_did_goes_on():
    """The best had nothing after two steps, then 3 a step."""
    best = seen([0, 0, 3, 6], [0, 0, 3, 6])
    assert best.lowest_returns(0.25).tolist() == [NONE, 0, 0, 3, NONE]


def test_rewards_that_come_late_end_nobody_who_waits_for_them():
    best = seen([0, 0, 0, 1], [0, 0, 0, 1])
    assert best.lowest_returns(0.25).tolist() == [NONE, 0, 0, 0, NONE]


def test_none_falls_behind_before_there_are_enough():
    best = seen([1, 2, 3])
    assert best.lowest_returns(0.25).tolist() == [NONE]
    assert seen().lowest_returns(0.25).tolist() == [NONE]


@pytest.mark.parametrize("other", [[9], [9, 9, 9, 9, 9]], ids=["shorter", "longer"])
def test_none_falls_behind_where_episodes_differ_in_length(other):
    best = seen([1, 2, 3, 4], [1, 2, 3, 4])
    assert best.lowest_returns(0.25)[2] == 2
    best.add(np.array(other, dtype=float))
    for _ in range(3):
        assert best.lowest_returns(0.25).tolist() == [NONE]
        best.add(np.array([1.0, 2, 3, 4]))  # for good


def test_negative_returns():
    """One point lost a step: who loses 2 a step falls behind, who loses none does not."""
    best = seen([-1, -2, -3, -4], [-1, -2, -3, -4])
    assert best.lowest_returns(0.25).tolist() == [NONE, -1, -2, -3, NONE]


@pytest.mark.parametrize("curves", [[[1, 2], [3, 4], [0, 1]], [[1, 2]], [], [[1, 2], [3, 4, 5]]])
def test_state_goes_round(curves):
    best, other = seen(*curves), BestEpisodes(2)
    other.load_state_dict(best.state_dict())
    for added in ([5, 6], [2, 3]):
        assert other.lowest_returns(0.0).tolist() == best.lowest_returns(0.0).tolist()
        best.add(np.array(added, dtype=float))
        other.add(np.array(added, dtype=float))
    assert other.return_curves.tolist() == best.return_curves.tolist()


@pytest.mark.parametrize("curves", [[[1.0, np.nan]], [[np.inf, 1.0]], [1.0, 2.0], [[[1.0]]], [[], []]])
def test_wrong_state(curves):
    state = {**seen([1, 2], [3, 4]).state_dict(), "return_curves": th.tensor(curves)}
    with pytest.raises(ValueError, match="return curves must be rows of finite numbers"):
        BestEpisodes(2).load_state_dict(state)


def test_wrong_flag():
    with pytest.raises(ValueError, match="lengths_differ must be True or False, got 'x'"):
        BestEpisodes(2).load_state_dict({**seen([1, 2]).state_dict(), "lengths_differ": "x"})


# ---------------------------------------------------------------- in episodes


def run_policies(env, layout, policy_weights, lowest_returns, **kwargs):
    actors = PolicyActors(layout, policy_weights, nn.Tanh(), ActionMap(env.action_space), lambda obs: obs, env.num_envs)
    lowest = None if lowest_returns is None else [np.array(lowest_returns)] * len(policy_weights)
    return run_actors(env, actors, range(len(policy_weights)), lowest_returns=lowest, **kwargs)


def run(env, actions, lowest_returns, **kwargs):
    """Linear policies that always act with these actions; in ConstantObs, that is their reward."""
    actions = th.tensor(actions)
    policy_weights = th.stack([th.zeros_like(actions), th.atanh(actions)], dim=1)
    return run_policies(env, WeightLayout((1, 1)), policy_weights, lowest_returns, **kwargs)


@pytest.mark.parametrize("n_envs", [1, 2, 5])
def test_who_falls_behind_ends(n_envs):
    """0.1 a step is too little after two steps, -0.5 after one; the others go on for four."""
    steps, marked = [], []

    def on_step(step):
        steps.append(step.n_active)
        marked.extend(bool(done) for info, done in zip(step.infos, step.dones, strict=True) if "pruned" in info)
        return True

    env = make_vec_env(lambda: ConstantObs(length=4), n_envs)
    episodes = run(env, [0.5, 0.1, -0.5, 0.2], [NONE, 0.0, 0.3, NONE], on_step=on_step)
    assert [episode.pruned for episode in episodes] == [False, True, True, False]
    assert [episode.length for episode in episodes] == [4, 2, 1, 4]
    np.testing.assert_allclose([episode.episode_return for episode in episodes], [2.0, 0.2, -0.5, 0.8], rtol=1e-5)
    np.testing.assert_allclose(episodes[3].return_curve, [0.2, 0.4, 0.6, 0.8], rtol=1e-5)
    np.testing.assert_allclose(episodes[1].return_curve, [0.1, 0.2], rtol=1e-5)
    assert sum(steps) == 4 + 2 + 1 + 4
    assert marked == [True, True]


def test_the_last_step_counts_as_an_end():
    """Who falls behind as the episode ends has not been pruned."""
    episodes = run(make_vec_env(lambda: ConstantObs(length=2), 1), [0.1], [NONE, NONE, 5.0])
    assert not episodes[0].pruned
    assert episodes[0].length == 2


def test_what_the_env_itself_calls_pruned_or_a_success():
    """An info of the former name means nothing; of a pruned episode, nobody knows whether it would have succeeded."""

    class Informed(ConstantObs):
        def step(self, action):
            observation, reward, terminated, truncated, _ = super().step(action)
            return observation, reward, terminated, truncated, {"pruned": 0.3, "is_success": True}

    last_infos = []

    def on_step(step):
        last_infos.extend(info for info, done in zip(step.infos, step.dones, strict=True) if done)
        return True

    episodes = run(make_vec_env(lambda: Informed(length=4), 1), [0.5, 0.1], [NONE, NONE, 0.3, NONE], on_step=on_step)
    assert [(episode.pruned, episode.length) for episode in episodes] == [(False, 4), (True, 2)]
    assert ["is_success" in info for info in last_infos] == [True, False]


def test_the_last_entry_holds_for_longer_episodes():
    episodes = run(make_vec_env(lambda: ConstantObs(length=6), 1), [0.1], [NONE, NONE, NONE, 0.45])
    assert (episodes[0].pruned, episodes[0].length) == (True, 3)


@pytest.mark.parametrize(
    "make_env",
    [
        lambda: VecMonitor(DummyVecEnv([lambda: ConstantObs(length=4)])),
        lambda: VecFrameStack(DummyVecEnv([lambda: ConstantObs(length=4)]), n_stack=1),
    ],
    ids=["VecMonitor", "VecFrameStack"],
)
def test_wrappers_that_must_see_episodes_out(make_env):
    episodes = run(make_env(), [0.1, 0.2], [NONE, 5.0])
    assert [(episode.pruned, episode.length) for episode in episodes] == [(False, 4)] * 2


def test_raw_rewards_count_under_vec_normalize():
    env = VecNormalize(make_vec_env(lambda: ConstantObs(length=4), 2), norm_obs=False)
    episodes = run(env, [0.5, 0.1], [NONE, 0.3])
    assert [episode.pruned for episode in episodes] == [False, True]
    np.testing.assert_allclose(episodes[0].return_curve, [0.5, 1.0, 1.5, 2.0], rtol=1e-5)


def test_vec_normalize_begins_anew_after_a_pruned_episode():
    """Otherwise its running return, of which it takes the variance, would be that of several episodes."""
    env = VecNormalize(make_vec_env(lambda: ConstantObs(length=4), 1), norm_obs=False, gamma=1.0)
    run(env, [0.5, 0.5], [NONE, NONE, 5.0])
    assert env.returns.tolist() == [0]


def test_the_env_is_reset_for_the_next_one():
    """What the next candidate does does not depend on who ran before it."""
    layout = WeightLayout((2, 3, 1))
    policy_weights = th.randn(6, layout.n_weights, generator=th.Generator().manual_seed(0))
    whole = run_policies(make_vec_env(Seeded, 1), layout, policy_weights, [NONE])
    for n_envs in (1, 2, 6):
        pruned = run_policies(make_vec_env(Seeded, n_envs), layout, policy_weights, [NONE, NONE, 0.5])
        assert {episode.pruned for episode in pruned} == {False, True}
        for one, other in zip(whole, pruned, strict=True):
            np.testing.assert_array_equal(one.return_curve[: other.length], other.return_curve)
            assert other.pruned or one.length == other.length
