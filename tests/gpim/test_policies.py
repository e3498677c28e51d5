"""The reward for a known q, and who sees what."""

import math

import numpy as np
import pytest
import torch as th

from sb3_gogepo import GPIM
from sb3_gogepo.gpim import GPIMPolicy
from sb3_gogepo.gpim.policies import Discriminator

from .conftest import TINY, make_env


def linear_discriminator(weights, **kwargs):
    """Logits = weights @ observation."""
    weights = th.as_tensor(weights, dtype=th.float32)
    discriminator = Discriminator(n_obs=kwargs.pop("n_obs", weights.shape[1]), n_latents=len(weights), net_arch=[], **kwargs)
    discriminator.mlp[0].weight.data, discriminator.mlp[0].bias.data = weights, th.zeros(len(weights))
    return discriminator


def test_reward_of_a_known_q():
    discriminator = linear_discriminator([[1.0], [0.0]])  # q(0 | s) = sigmoid(s)
    observations = th.tensor([[0.0], [math.log(3.0)], [math.log(3.0)]])
    reward = discriminator.reward(observations, th.tensor([0, 0, 1]))
    expected = [0.0, math.log(0.75 / 0.5), math.log(0.25 / 0.5)]
    assert np.allclose(reward.detach(), expected, atol=1e-6)


def test_reward_is_zero_on_average_for_the_uniform_q_and_log_n_at_most():
    discriminator = linear_discriminator(np.zeros((5, 2)))
    assert np.allclose(discriminator.reward(th.randn(7, 2), th.randint(5, (7,))).detach(), 0, atol=1e-6)
    discriminator = linear_discriminator([[100.0], [-100.0], [0.0]])
    assert discriminator.reward(th.ones(1, 1), th.tensor([0])).item() == pytest.approx(math.log(3))


def test_expected_reward_of_a_known_q():
    discriminator = linear_discriminator([[1.0], [0.0]])
    zero, three = th.tensor([[0.0]]), th.tensor([[math.log(3.0)]])  # q = (1/2, 1/2) and (3/4, 1/4)
    expected = 0.5 * math.log(0.75) + 0.5 * math.log(0.25) + math.log(2)
    assert discriminator.expected_reward(three, zero).item() == pytest.approx(expected)
    expected = 0.75 * math.log(0.75) + 0.25 * math.log(0.25) + math.log(2)
    assert discriminator.expected_reward(three, three).item() == pytest.approx(expected)


def test_expected_reward_is_highest_at_the_source():
    th.manual_seed(0)
    discriminator = Discriminator(n_obs=2, n_latents=6, net_arch=[16])
    sources = th.randn(50, 2)
    at_source = discriminator.expected_reward(sources, sources)
    assert (discriminator.expected_reward(th.randn(50, 2), sources) <= at_source).all()


def test_expected_reward_is_the_mean_of_the_rewards():
    th.manual_seed(0)
    discriminator = Discriminator(n_obs=2, n_latents=3, net_arch=[16])
    here, source = th.randn(1, 2), th.randn(1, 2)
    by_latent = th.stack([discriminator.reward(here, th.tensor([k])) for k in range(3)])
    expected = (th.softmax(discriminator(source), dim=1).T * by_latent).sum()
    assert th.allclose(discriminator.expected_reward(here, source), expected)


def test_the_discriminator_sees_its_indices_only():
    discriminator = linear_discriminator([[1.0, 2.0], [0.0, 1.0]], n_obs=4, indices=[2, 0])
    observations = th.tensor([[3.0, 9.0, 5.0, -9.0]])
    assert discriminator(observations).tolist() == [[5.0 + 6.0, 3.0]]


def make_policy(**kwargs):
    env = make_env()
    return GPIMPolicy(env.observation_space, env.action_space, **{**TINY, **kwargs})


def test_the_goal_policy_has_no_input_for_the_latent():
    policy = make_policy()
    assert set(policy.goal_policy.observation_space.spaces) == {"observation", "desired_goal"}
    assert set(policy.skill_policy.observation_space.spaces) == {"observation", "latent"}
    assert policy.goal_policy.actor.latent_pi[0].in_features == 2 + 2
    assert policy.skill_policy.actor.latent_pi[0].in_features == 2 + TINY["n_latents"]


def test_predict_needs_neither_skill_policy_nor_discriminator():
    env = make_env()
    model = GPIM("MultiInputPolicy", env, policy_kwargs=TINY, seed=0, device="cpu")
    observation, _ = env.reset(seed=1)
    before, _ = model.predict(observation, deterministic=True)
    for part in (model.policy.skill_policy, model.policy.discriminator):
        for parameter in part.parameters():
            parameter.data.fill_(float("nan"))
    after, _ = model.predict(observation, deterministic=True)
    assert np.array_equal(before, after)
    assert env.action_space.contains(after)
    goal_changed = {**observation, "desired_goal": -observation["desired_goal"]}
    assert not np.array_equal(model.predict(goal_changed, deterministic=True)[0], before)
    achieved_changed = {**observation, "achieved_goal": observation["achieved_goal"] + 0.5}
    assert np.array_equal(model.predict(achieved_changed, deterministic=True)[0], before)


def test_a_policy_alone_survives_its_file(tmp_path):
    policy = make_policy(discriminator_indices=[1])
    policy.save(tmp_path / "policy")
    loaded = GPIMPolicy.load(tmp_path / "policy", device="cpu")
    observation, _ = make_env().reset(seed=1)
    assert np.array_equal(
        loaded.predict(observation, deterministic=True)[0], policy.predict(observation, deterministic=True)[0]
    )
    assert loaded.discriminator.indices.tolist() == [1]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (dict(n_latents=1), r"n_latents must be an integer >= 2, got 1"),
        (dict(net_arch=[0]), r"net_arch must be a list of integers >= 1, got \[0\]"),
        (dict(discriminator_net_arch="64"), r"discriminator_net_arch must be a list"),
        (dict(discriminator_indices=[2]), r"discriminator_indices must be None or a list of integers in \[0, 2\), got \[2\]"),
        (dict(discriminator_indices=[]), r"discriminator_indices must be .* got \[\]"),
    ],
)
def test_wrong_arguments(argument, message):
    with pytest.raises(ValueError, match=message):
        make_policy(**argument)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace:DeprecationWarning")
def test_the_policy_can_be_traced_and_exported(make_model):
    model = make_model()
    model.policy.set_training_mode(False)
    observation = {key: th.as_tensor(values)[None] for key, values in model.observation_space.sample().items()}
    expected = model.policy(observation)
    for graph in (th.jit.trace(model.policy, (observation,)), th.export.export(model.policy, (observation,)).module()):
        th.testing.assert_close(graph(observation), expected)
    sampler = model.policy.goal_policy.actor(
        {key: observation[key] for key in ("observation", "desired_goal")}, deterministic=True
    )
    assert th.equal(sampler, expected)
