import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_gogepo.networks.policy_weights import WeightLayout
from sb3_gogepo.networks.state_critic import StateCritic

LAYOUT = WeightLayout((3, 8, 2))
OBSERVATIONS = spaces.Box(-np.inf, np.inf, (3,), np.float32)
ACTIONS = spaces.Box(-1, 1, (2,), np.float32)


@pytest.fixture
def critic():
    th.manual_seed(0)
    return StateCritic(OBSERVATIONS, ACTIONS, LAYOUT, th.nn.Tanh(), net_arch=(16, 8), weight_bound=2.0)


@pytest.fixture
def discrete():
    th.manual_seed(0)
    return StateCritic(OBSERVATIONS, spaces.Discrete(2, start=5), LAYOUT, th.nn.Tanh(), net_arch=(16, 8))


def test_discrete_critics_value_what_is_chosen_and_mean_what_may_be(discrete):
    observations = th.randn(4, 3)
    chosen = th.tensor([[0], [1], [1], [0]])  # stored from 0, whatever number the env's choices start with
    values = [network(observations) for network in discrete.critics]
    for part, value in zip(discrete.critics(observations, discrete.as_seen(chosen)), values, strict=True):
        th.testing.assert_close(part, value.gather(1, chosen))
    th.testing.assert_close(
        discrete.critics.q1_forward(observations, th.full((4, 2), 0.5)), values[0].mean(dim=1, keepdim=True)
    )


def test_discrete_target_is_the_choice_that_acts(discrete):
    observations = th.randn(6, 3)
    probabilities = discrete.act(discrete.actor_target, observations)
    th.testing.assert_close(probabilities.sum(dim=1), th.ones(6))
    seen = discrete.act_smoothed(observations, noise=th.empty(0))
    assert th.equal(seen.argmax(dim=1), probabilities.argmax(dim=1))
    assert th.equal(seen.sort(dim=1).values, th.tensor([[0.0, 1.0]]).expand(6, 2))


def test_the_two_critics_begin_differently_and_as_their_targets(critic):
    batch = th.randn(5, 3), th.rand(5, 2)
    first, second = critic.critics(*batch)
    assert not th.isclose(first, second).any()
    assert all(th.equal(a, b) for a, b in zip((first, second), critic.critics_target(*batch), strict=True))


def test_actor_is_a_policy_of_the_layout(critic):
    observations = th.randn(4, 3)
    first, last = LAYOUT.split(critic.actor.detach()[None])
    hidden = th.tanh(observations @ first.weight[0].T + first.bias[0])
    th.testing.assert_close(critic.act(critic.actor, observations), th.tanh(hidden @ last.weight[0].T + last.bias[0]))


def test_bound_is_nine_tenths_of_the_generators(critic):
    weights = th.full((LAYOUT.n_weights,), 100.0)
    critic.bound(weights)
    th.testing.assert_close(weights, 0.9 * 2.0 / LAYOUT.fan_in().sqrt())


def test_targets_move_by_tau(critic):
    targets = [*critic.critics_target.parameters(), critic.actor_target]
    before = [target.clone() for target in targets]
    for parameter in (*critic.critics.parameters(), critic.actor):
        parameter.data += 1.0
    critic.update_targets(tau=0.25)
    for target, earlier in zip(targets, before, strict=True):
        th.testing.assert_close(target.detach(), earlier.detach() + 0.25)


@pytest.mark.parametrize("actions", [ACTIONS, spaces.Discrete(2)], ids=["Box", "Discrete"])
@pytest.mark.parametrize("layer_norm", [True, False])
def test_layer_norm_takes_the_scale_out_of_every_hidden_layer(actions, layer_norm):
    """Of both critics and their targets."""
    critic = StateCritic(OBSERVATIONS, actions, LAYOUT, th.nn.Tanh(), net_arch=(16, 8), layer_norm=layer_norm)
    batch = th.randn(5, 3), th.rand(5, 2)
    for critics in (critic.critics, critic.critics_target):
        hidden = [module for module in critics.modules() if isinstance(module, th.nn.Linear) and module.out_features > 2]
        assert len(hidden) == 4
        for layer in hidden:
            before = critics(*batch)
            layer.weight.data *= 10.0
            layer.bias.data *= 10.0
            same = [th.allclose(old, new, atol=1e-3) for old, new in zip(before, critics(*batch), strict=True)]
            assert all(same) == layer_norm
