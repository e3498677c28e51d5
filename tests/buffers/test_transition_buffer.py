import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_gogepo.buffers.transition_buffer import TransitionBuffer

OBSERVATIONS, ACTIONS = spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Box(-1, 1, (1,), np.float32)


def make(size=10, seed=0):
    return TransitionBuffer(size, (OBSERVATIONS, ACTIONS), seed)


def fill(buffer, *lengths, terminated=True):
    """Step t of all observes (t, t), acts t / 100 and is rewarded by t."""
    for length in lengths:
        steps = np.arange(buffer.n_added, buffer.n_added + length, dtype=np.float32)
        observations = np.stack([steps, steps], axis=1)
        buffer.add_episode(observations, steps[:, None] / 100, steps, observations[-1] + 1, terminated)
    return buffer


@pytest.mark.parametrize(
    ("lengths", "stored"), [((3,), range(3)), ((4, 5), range(9)), ((4, 5, 4), range(3, 13)), ((25,), range(15, 25))]
)
def test_the_newest_steps_are_kept_as_they_were(lengths, stored):
    samples = fill(make(), *lengths).sample_batches(50, 8)
    steps = samples.rewards[..., 0]
    assert set(steps.flatten().int().tolist()) == set(stored)
    th.testing.assert_close(samples.observations, steps[..., None].expand(-1, -1, 2))
    th.testing.assert_close(samples.next_observations, samples.observations + 1)
    th.testing.assert_close(samples.actions[..., 0], steps / 100)
    ends = np.cumsum(lengths) - 1
    assert np.array_equal(samples.dones[..., 0].bool().numpy(), np.isin(steps.numpy(), ends))


def test_truncated_episodes_go_on():
    assert not fill(make(), 4, terminated=False).sample_batches(5, 8).dones.any()


def test_latest_observations():
    assert fill(make(), 7, 6).latest_observations(4)[:, 0].tolist() == [12, 11, 10, 9]
    assert len(fill(make(), 3).latest_observations(256)) == 3


@pytest.mark.parametrize("lengths", [(), (4,), (7, 6)])
def test_restored_buffer_draws_the_same(lengths):
    buffer, restored = fill(make(), *lengths), make(seed=1)
    restored.load_state_dict(buffer.state_dict())
    for each in (buffer, restored):
        fill(each, 3)
    assert all(th.equal(a, b) for a, b in zip(buffer.sample_batches(3, 8), restored.sample_batches(3, 8), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transitions.actions": th.zeros(4, 2)}, "actions must have the shape"),
        ({"transitions.observations": th.full((4, 2), th.nan)}, "observations must be finite"),
        ({"transitions.n_added": 3}, "do not fit"),
        ({"transitions.n_added": 14}, "do not fit"),
    ],
)
def test_wrong_contents_are_refused_and_nothing_changes(change, message):
    buffer = fill(make(), 2)
    before = buffer.state_dict()
    with pytest.raises(ValueError, match=message):
        buffer.load_state_dict({**fill(make(), 4).state_dict(), **change})
    assert all(
        th.equal(a, b) if th.is_tensor(a) else a == b
        for a, b in zip(before.values(), buffer.state_dict().values(), strict=True)
    )
