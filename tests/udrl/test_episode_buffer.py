import numpy as np
import pytest
import torch as th

from sb3_gogepo.udrl.episode_buffer import EpisodeBuffer
from tests.helpers import assert_same_buffer_state


def add(buffer, *rewards, mark=0.0):
    """An episode whose observations are (mark, step) and whose actions are the rewards."""
    steps = np.arange(len(rewards))
    buffer.add(np.stack([np.full(len(rewards), mark), steps], axis=1), np.array(rewards)[:, None], np.array(rewards))


def make_buffer(buffer_size=10):
    return EpisodeBuffer(buffer_size, n_obs=2, n_actions=1, seed=0)


def test_the_best_episodes_stay_the_lowest_first():
    buffer = make_buffer(3)
    for value in (2.0, 5.0, 1.0, 4.0, 3.0):
        add(buffer, value)
    assert buffer.stored_returns.tolist() == [3, 4, 5]
    returns, _ = buffer.best(2)
    assert returns.tolist() == [4, 5]


def test_of_equal_returns_the_newest_stay():
    buffer = make_buffer(2)
    for mark in range(4):
        add(buffer, 1.0, mark=mark)
    assert buffer.state_dict()["observations"][:, 0].tolist() == [2, 3]


def test_trailing_segments_by_hand():
    """Every step's return to go is the sum to the end, the last reward included, and its horizon at least 1."""
    buffer = make_buffer()
    add(buffer, 1.0, 2.0, 4.0, mark=1)
    samples = buffer.sample(200)
    expected = {0.0: (7.0, 3.0), 1.0: (6.0, 2.0), 2.0: (4.0, 1.0)}
    for observation, reward, action, to_go, horizon in zip(
        samples.observations, samples.rewards, samples.actions, samples.returns_to_go, samples.horizons, strict=True
    ):
        assert (to_go.item(), horizon.item()) == expected[observation[1].item()]
        assert reward == action[0] == 2.0 ** observation[1]


def test_episodes_are_drawn_uniformly_whatever_their_length():
    buffer = make_buffer()
    add(buffer, *[0.1] * 90, mark=1)
    add(buffer, 20.0, mark=2)
    marks = buffer.sample(4000).observations[:, 0]
    assert (marks == 1).float().mean().item() == pytest.approx(0.5, abs=0.04)
    steps = buffer.sample(8000).observations[:, 1]
    assert steps.max() == 89


def test_state_is_restored_exactly():
    one, two = make_buffer(4), make_buffer(4)
    for i in range(6):
        add(one, *np.arange(i + 1.0), mark=i)
    one.sample(3)
    two.load_state_dict(one.state_dict())
    assert_same_buffer_state(one.state_dict(), two.state_dict())
    assert th.equal(one.sample(9).returns_to_go, two.sample(9).returns_to_go)
    smaller = make_buffer(2)
    smaller.load_state_dict(one.state_dict())
    assert smaller.stored_returns.tolist() == one.stored_returns[-2:].tolist()


def test_an_empty_buffer_is_restored():
    buffer = make_buffer()
    buffer.load_state_dict(make_buffer().state_dict())
    assert len(buffer) == 0
    with pytest.raises(ValueError, match="cannot sample from an empty EpisodeBuffer"):
        buffer.sample(1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (dict(observations=th.zeros(3, 5)), r"saved observations must have the shape \(3, 2\), got \(3, 5\)"),
        (dict(actions=th.zeros(3)), r"saved actions must have the shape \(3, 1\), got \(3,\)"),
        (dict(rewards=th.zeros(2)), r"saved rewards must have the shape \(3,\), got \(2,\)"),
        (dict(returns=th.zeros(2)), r"saved returns must have the shape \(1,\), got \(2,\)"),
        (dict(rewards=th.full((3,), th.nan)), "must be finite"),
    ],
)
def test_damaged_state_is_refused(damage, message):
    buffer = make_buffer()
    add(buffer, 1.0, 2.0, 3.0)
    before = buffer.state_dict()
    with pytest.raises(ValueError, match=message):
        buffer.load_state_dict({**before, **damage})
    assert_same_buffer_state(buffer.state_dict(), before)


def test_only_finite_episodes_are_stored():
    buffer = make_buffer()
    with pytest.raises(ValueError, match="only finite episodes"):
        add(buffer, 1.0, np.nan)
    with pytest.raises(ValueError, match="buffer_size must be an integer >= 1, got 0"):
        make_buffer(0)
