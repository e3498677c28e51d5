import numpy as np
import pytest
import torch as th
from torch import nn

from sb3_gogepo.networks.policy_weights import BatchedActor, WeightLayout, forward_policies

LAYOUTS = [(3, 2), (1, 1), (3, 5, 2), (4, 7, 6, 5, 2)]
ACTIVATIONS = [nn.Tanh, nn.ReLU, nn.ELU]


def make_sequential(layout, flat, activation_fn):
    """The torch module whose parameters, in torch's order, are ``flat``."""
    modules = []
    for n_in, n_out in layout.shapes:
        modules += [nn.Linear(n_in, n_out), activation_fn()]
    net = nn.Sequential(*modules[:-1])
    nn.utils.vector_to_parameters(flat, net.parameters())
    return net


@pytest.mark.parametrize("sizes", LAYOUTS)
def test_split_and_join_are_inverse(sizes):
    layout = WeightLayout(sizes)
    policy_weights = th.randn(3, layout.n_weights)
    layers = layout.split(policy_weights)
    assert [tuple(layer.weight.shape) for layer in layers] == [(3, n_out, n_in) for n_in, n_out in layout.shapes]
    assert [tuple(layer.bias.shape) for layer in layers] == [(3, n_out) for _, n_out in layout.shapes]
    assert th.equal(layout.join(layers), policy_weights)


def test_split_gives_views():
    layout = WeightLayout((2, 3, 1))
    policy_weights = th.zeros(1, layout.n_weights)
    for weight, bias in layout.split(policy_weights):
        weight.fill_(1)
        bias.fill_(1)
    assert policy_weights.eq(1).all()


def test_flat_order_by_hand():
    layer, last = WeightLayout((2, 2, 1)).split(th.arange(9.0).unsqueeze(0))
    assert layer.weight[0].tolist() == [[0, 1], [2, 3]]
    assert layer.bias[0].tolist() == [4, 5]
    assert last.weight[0].tolist() == [[6, 7]]
    assert last.bias[0].tolist() == [8]


@pytest.mark.parametrize(
    ("n_obs", "n_actions", "n_weights"),
    [(8, 2, 68_610), (11, 3, 69_635), (4, 1, 67_329), (2, 1, 66_817), (17, 6, 71_942)],
)
def test_number_of_weights_of_the_papers_policies(n_obs, n_actions, n_weights):
    assert WeightLayout((n_obs, 256, 256, n_actions)).n_weights == n_weights


def test_fan_in_by_hand():
    assert WeightLayout((2, 3, 1)).fan_in().tolist() == [2.0] * 9 + [3.0] * 4


@pytest.mark.parametrize("activation_fn", ACTIVATIONS)
@pytest.mark.parametrize("sizes", LAYOUTS)
def test_forward_policies_equals_one_sequential_a_policy(sizes, activation_fn):
    layout = WeightLayout(sizes)
    policy_weights = th.randn(4, layout.n_weights)
    nets = [make_sequential(layout, flat, activation_fn) for flat in policy_weights]
    layers = layout.split(policy_weights)

    shared = th.randn(6, sizes[0])
    expected = th.stack([net(shared) for net in nets])
    th.testing.assert_close(forward_policies(layers, shared, activation_fn()), expected)

    own = th.randn(4, 6, sizes[0])
    expected = th.stack([net(observations) for net, observations in zip(nets, own, strict=True)])
    th.testing.assert_close(forward_policies(layers, own, activation_fn()), expected)


def test_forward_policies_is_differentiable():
    layout = WeightLayout((3, 4, 2))
    policy_weights = th.randn(2, layout.n_weights, requires_grad=True)
    observations = th.randn(5, 3)
    forward_policies(layout.split(policy_weights), observations, th.tanh)[0].sum().backward()
    net = make_sequential(layout, policy_weights[0].detach(), nn.Tanh)
    net(observations).sum().backward()
    th.testing.assert_close(policy_weights.grad[0], nn.utils.parameters_to_vector([p.grad for p in net.parameters()]))
    assert policy_weights.grad[1].eq(0).all()  # policies do not touch each other


@pytest.mark.parametrize("activation_fn", ACTIVATIONS)
@pytest.mark.parametrize("sizes", LAYOUTS)
def test_batched_actor_equals_one_sequential_a_policy(sizes, activation_fn):
    layout = WeightLayout(sizes)
    policy_weights = th.randn(4, layout.n_weights)
    observations = th.randn(4, sizes[0])
    nets = [make_sequential(layout, flat, activation_fn) for flat in policy_weights]
    expected = th.stack([net(observation) for net, observation in zip(nets, observations, strict=True)])
    outputs = BatchedActor(layout, policy_weights, activation_fn())(observations.numpy())
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, expected.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_batched_actor_does_not_depend_on_its_neighbors():
    layout = WeightLayout((3, 64, 64, 2))
    policy_weights, observations = th.randn(5, layout.n_weights), th.randn(5, 3)
    together = BatchedActor(layout, policy_weights, nn.Tanh())(observations.numpy())
    for i in range(5):
        alone = BatchedActor(layout, policy_weights[i : i + 1], nn.Tanh())(observations[i : i + 1].numpy())
        assert np.array_equal(alone[0], together[i])


def test_batched_actor_copies_the_weights():
    layout = WeightLayout((2, 3, 1))
    policy_weights = th.randn(1, layout.n_weights)
    actor = BatchedActor(layout, policy_weights, nn.Tanh())
    observations = np.ones((1, 2), np.float32)
    before = actor(observations)
    policy_weights.zero_()
    assert np.array_equal(actor(observations), before)


def test_replace_changes_one_policy():
    layout = WeightLayout((2, 3, 2))
    policy_weights, new = th.randn(3, layout.n_weights), th.randn(layout.n_weights)
    observations = np.ones((3, 2), np.float32)
    actor = BatchedActor(layout, policy_weights, nn.Tanh())
    before = actor(observations)
    actor.replace(1, new, layout)
    policy_weights[1] = new
    after = actor(observations)
    assert np.array_equal(after, BatchedActor(layout, policy_weights, nn.Tanh())(observations))
    assert not np.allclose(after[1], before[1])
    assert np.array_equal(after[[0, 2]], before[[0, 2]])


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0), (3, -1, 2), (3, 1.5)])
def test_bad_layer_sizes(sizes):
    with pytest.raises(ValueError, match=r"layer_sizes must be two or more positive integers, got \["):
        WeightLayout(sizes)


@pytest.mark.parametrize("shape", [(13,), (2, 12), (1, 2, 13)])
def test_split_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"policy_weights must have shape \(n_policies, 13\)"):
        WeightLayout((2, 3, 1)).split(th.zeros(shape))
