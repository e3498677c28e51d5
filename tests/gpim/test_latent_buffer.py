"""Rewards are computed when steps are sampled."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_gogepo.gpim.latent_buffer import LatentBuffer

SPACE = spaces.Dict(observation=spaces.Box(-10, 10, (2,), np.float32), latent=spaces.Discrete(5))


def make_buffer(buffer_size=10, reward_function=None, seed=0):
    buffer = LatentBuffer(
        buffer_size,
        SPACE,
        spaces.Box(-1, 1, (1,), np.float32),
        reward_function=reward_function or (lambda samples: samples.next_observations[:, 0] * 10 + samples.latents),
        device="cpu",
    )
    buffer.seed(seed)
    return buffer


def add(buffer, length, start=0.0, latent=0, terminated=False):
    """An episode whose first observed number counts the steps."""
    observations = np.stack([start + np.arange(length + 1), np.zeros(length + 1)], axis=1).astype(np.float32)
    latents = np.full(length, latent)
    actions = np.linspace(-1, 1, length).reshape(-1, 1)
    buffer.add_episode({"observation": observations, "latent": np.append(latents, latent)}, actions, latents, terminated)


def test_reward_of_the_next_observation_and_the_latent():
    buffer = make_buffer()
    add(buffer, 4, latent=3)
    samples = buffer.sample(200)
    assert samples.rewards.shape == (200, 1)
    assert th.equal(samples.next_observations["observation"], samples.observations["observation"] + th.tensor([1.0, 0.0]))
    assert th.equal(samples.rewards[:, 0], samples.next_observations["observation"][:, 0] * 10 + 3)
    assert set(samples.observations["observation"][:, 0].tolist()) == {0, 1, 2, 3}
    assert (samples.observations["latent"] == 3).all()


def test_rewards_follow_the_present_function():
    scale = [1.0]
    buffer = make_buffer(reward_function=lambda samples: scale[0] * th.ones(len(samples.latents)))
    add(buffer, 4)
    assert (buffer.sample(5).rewards == 1).all()
    scale[0] = -2.0
    assert (buffer.sample(5).rewards == -2).all()


def test_sources_belong_to_their_steps():
    buffer = make_buffer()
    add(buffer, 3)
    samples = buffer.sample_latents(50)
    assert th.equal(samples.sources, samples.next_observations)
    observations = {"observation": np.zeros((3, 2), np.float32), "latent": np.zeros(3, int)}
    buffer = make_buffer(reward_function=lambda samples: samples.sources[:, 1])
    buffer.add_episode(observations, np.zeros((2, 1)), np.zeros(2, int), False, sources=np.array([[0, 5], [0, 6]]))
    assert set(buffer.sample(50).rewards[:, 0].tolist()) == {5, 6}


def test_a_reward_carries_no_gradient():
    weight = th.ones(1, requires_grad=True)
    buffer = make_buffer(reward_function=lambda samples: samples.next_observations[:, 0] * weight)
    add(buffer, 4)
    assert not buffer.sample(5).rewards.requires_grad


@pytest.mark.parametrize("terminated", [False, True])
def test_time_limits_are_bootstrapped(terminated):
    buffer = make_buffer()
    add(buffer, 4, terminated=terminated)
    samples = buffer.sample(100)
    is_last = samples.observations["observation"][:, 0] == 3
    assert th.equal(samples.dones[:, 0].bool(), is_last & terminated)


def test_the_oldest_steps_make_way():
    buffer = make_buffer(buffer_size=6)
    add(buffer, 4, start=0)
    add(buffer, 4, start=5, latent=2)
    assert len(buffer) == 6
    samples = buffer.sample_latents(300)
    assert set(zip(samples.next_observations[:, 0].tolist(), samples.latents.tolist(), strict=True)) == {
        *((value, 0) for value in (3, 4)),
        *((value, 2) for value in (6, 7, 8, 9)),
    }


def test_sampling_leaves_the_global_generator_alone_and_repeats_with_the_seed():
    one, two, other = make_buffer(seed=1), make_buffer(seed=1), make_buffer(seed=2)
    for buffer in (one, two, other):
        add(buffer, 8)
    assert th.equal(one.sample(30).rewards, two.sample(30).rewards)
    assert not th.equal(one.sample(30).rewards, other.sample(30).rewards)


def test_empty():
    with pytest.raises(ValueError, match="cannot sample from an empty LatentBuffer"):
        make_buffer().sample(1)


@pytest.mark.parametrize("lengths", [(4,), (4, 5), (10,)])
def test_state_survives(lengths):
    buffer, other = make_buffer(), make_buffer(seed=9)
    for length in lengths:
        add(buffer, length, latent=1)
    other.load_state_dict(buffer.state_dict())
    assert th.equal(buffer.sample(20).rewards, other.sample(20).rewards)
    add(buffer, 2, latent=4)
    add(other, 2, latent=4)
    assert np.array_equal(buffer.latents, other.latents)
    assert th.equal(buffer.sample(20).rewards, other.sample(20).rewards)


def damaged(change):
    buffer = make_buffer()
    add(buffer, 4)
    state = buffer.state_dict()
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update(pos=7), "4 saved steps, at position 7, do not fit a buffer of 10"),
        (lambda state: state.update(actions=th.zeros(4, 1, 2)), r"the saved actions must have the shape \(4, 1, 1\)"),
        (lambda state: state["observations"].pop("latent"), "the saved observations must have the keys"),
        (lambda state: state["observations"]["observation"].fill_(th.nan), "must be finite"),
    ],
)
def test_damaged_state(change, message):
    buffer = make_buffer()
    with pytest.raises(ValueError, match=message):
        buffer.load_state_dict(damaged(change))
    assert len(buffer) == 0
