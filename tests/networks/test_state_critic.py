import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_gogepo.networks.policy_weights import WeightLayout
from sb3_gogepo.networks.state_critic import StateCritic

LAYOUT = WeightLayout((3, 8, 2))


@pytest.fixture
def critic():
    th.manual_seed(0)
    return StateCritic(LAYOUT, th.nn.Tanh(), net_arch=(16, 8), weight_bound=2.0)


def test_values_are_those_of_sb3s_critics(critic):
    """The same numbers in SB3's ContinuousCritic give the same values."""
    box = spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,))
    theirs = ContinuousCritic(*box, net_arch=[16, 8], features_extractor=FlattenExtractor(box[0]), features_dim=3)
    parts = critic.critics.detach().split(critic.sizes)
    for i, network in enumerate(theirs.q_networks):
        linears = [module for module in network if isinstance(module, th.nn.Linear)]
        for k, (linear, (n_in, n_out)) in enumerate(zip(linears, critic.shapes, strict=True)):
            linear.weight.data = parts[2 * k].view(2, n_in, n_out)[i].T
            linear.bias.data = parts[2 * k + 1].view(2, n_out)[i]
    observations, actions = th.randn(5, 3), th.rand(5, 2)
    expected = th.cat(theirs(observations, actions), dim=1).T
    th.testing.assert_close(critic.q_values(critic.critics, observations, actions), expected)


def test_the_two_critics_begin_differently(critic):
    first, second = critic.q_values(critic.critics, th.randn(5, 3), th.rand(5, 2))
    assert not th.isclose(first, second).any()


def test_layer_norm_bounds_values_far_away():
    th.manual_seed(0)
    plain, normalized = (StateCritic(LAYOUT, th.nn.Tanh(), (16, 8), layer_norm=layer_norm) for layer_norm in (False, True))
    far = 1e4 * th.ones(1, 3), th.ones(1, 2)
    assert plain.q_values(plain.critics, *far).abs().max() > 50
    assert normalized.q_values(normalized.critics, *far).abs().max() < 10


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
    before = critic.critics_target.clone(), critic.actor_target.clone()
    for parameter in (critic.critics, critic.actor):
        parameter.data += 1.0
    critic.update_targets(tau=0.25)
    th.testing.assert_close(critic.critics_target, before[0] + 0.25)
    th.testing.assert_close(critic.actor_target, before[1] + 0.25)
