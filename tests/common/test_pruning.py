import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize
from torch import nn

from sb3_gogepo.common.policy_weights import WeightLayout
from sb3_gogepo.common.pruning import BestEpisodes
from sb3_gogepo.common.rollout import ActionMap, PolicyActors, run_actors
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
    assert [curve[-1] for curve in best.return_curves] == [8, 6]
    # at an even rate: 1.5, 3, 4.5; the best held at least 2, 4, 5
    assert best.lowest_returns(0.25).tolist() == [NONE, 1.5, 3, 4.5, NONE]
    assert best.lowest_returns(0.5).tolist() == [NONE, NONE, 3, 4.5, NONE]
    assert best.lowest_returns(0.51).tolist() == [NONE, NONE, NONE, 4.5, NONE]
    assert best.lowest_returns(1.0).tolist() == [NONE] * 5
    assert best.lowest_returns(0.0).tolist() == [NONE, 1.5, 3, 4.5, NONE]


def test_who_is_fast_but_falls_does_not_end_who_is_slow_but_lasts():
    """The best earn 3 a step for two steps; the slow one has earned 1 a step in each of ten, and goes on."""
    best = seen(range(1, 11), [3, 6], [3, 6], n_episodes=3)
    lowest = best.lowest_returns(0.1)
    assert (np.arange(1, 10) >= lowest[1:-1]).all()
    assert lowest[1:-1] == pytest.approx(0.6 * np.arange(1, 10))


def test_rewards_that_come_late_end_nobody_who_waits_for_them():
    best = seen([0, 0, 0, 1], [0, 0, 0, 1])
    assert best.lowest_returns(0.25).tolist() == [NONE, 0, 0, 0, NONE]


def test_none_falls_behind_before_there_are_enough():
    best = seen([1, 2, 3])
    assert best.lowest_returns(0.25).tolist() == [NONE] * 4
    assert seen().lowest_returns(0.25).tolist() == [NONE]


def test_negative_returns():
    """One point lost a step: who loses 2 a step falls behind, who loses none does not."""
    best = seen([-1, -2, -3, -4], [-1, -2, -3, -4])
    assert best.lowest_returns(0.25).tolist() == [NONE, -1, -2, -3, NONE]


def test_the_longest_may_not_be_among_the_best():
    best = seen([5, 5], [6, 6], [0] * 8)
    assert best.longest == 8
    assert best.estimate(3.0, 2) == 12
    assert len(best.lowest_returns(0.25)) == 9


def test_state_goes_round():
    best, other = seen([1, 2], [3, 4, 5]), BestEpisodes(2)
    other.load_state_dict(best.state_dict())
    assert [curve.tolist() for curve in other.return_curves] == [[3, 4, 5], [1, 2]]
    assert other.longest == 3
    empty = BestEpisodes(2)
    empty.load_state_dict(BestEpisodes(2).state_dict())
    assert empty.return_curves == []
    assert empty.longest == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(return_curves=th.tensor([1.0, np.nan, 3.0, 4.0, 5.0])), "must be one row of finite numbers"),
        (dict(return_curves=th.zeros(5, 1)), "must be one row of finite numbers"),
        (dict(longest=10**12), "must have 0 to 10000000 steps, got 1000000000000"),
        (dict(return_curves=th.zeros(4)), "must have 5 steps together, got 4"),
        (dict(longest=2), r"must have 1 to 2 steps, got \[3, 2\]"),
        (dict(curve_lengths=th.tensor([5, 0])), r"must have 1 to 3 steps, got \[5, 0\]"),
    ],
)
def test_wrong_state(change, message):
    state = seen([1, 2], [3, 4, 5]).state_dict()
    with pytest.raises(ValueError, match=message):
        BestEpisodes(2).load_state_dict({**state, **change})


# ---------------------------------------------------------------- in episodes


def run_policies(env, layout, policy_weights, lowest_returns, **kwargs):
    actors = PolicyActors(layout, policy_weights, nn.Tanh(), ActionMap(env.action_space), lambda obs: obs, env.num_envs)
    lowest = None if lowest_returns is None else np.array(lowest_returns)
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

    def on_step(n_steps, infos, dones):
        steps.append(n_steps)
        marked.extend(bool(done) for info, done in zip(infos, dones, strict=True) if "pruned" in info)
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


def test_the_env_is_reset_for_the_next_one():
    """What the next candidate does does not depend on who ran before it."""
    layout = WeightLayout((2, 3, 1))
    policy_weights = th.randn(6, layout.n_weights, generator=th.Generator().manual_seed(0))
    whole = run_policies(make_vec_env(Seeded, 1), layout, policy_weights, None)
    for n_envs in (1, 2, 6):
        pruned = run_policies(make_vec_env(Seeded, n_envs), layout, policy_weights, [NONE, NONE, 0.5])
        assert {episode.pruned for episode in pruned} == {False, True}
        for one, other in zip(whole, pruned, strict=True):
            np.testing.assert_array_equal(one.return_curve[: other.length], other.return_curve)
            assert other.pruned or one.length == other.length
