import pytest
import torch as th
from torch import nn

from sb3_gogepo.networks.evaluator import Evaluator, ParallelLinear, WeightsEvaluator
from sb3_gogepo.networks.policy_weights import Layer, WeightLayout

LAYOUT = WeightLayout((3, 6, 5, 2))


def make_evaluator(squash=th.tanh, n_probing_states=4, n_evaluators=1):
    states = th.randn(n_evaluators, n_probing_states, 3)
    return Evaluator(states, n_actions=2, activation=th.tanh, squash=squash, net_arch=(8,))


def permute_hidden_units(layers, i, order):
    """The same policies with the units of hidden layer ``i`` in another order."""
    layers = list(layers)
    layers[i] = Layer(layers[i].weight[:, order], layers[i].bias[:, order])
    layers[i + 1] = Layer(layers[i + 1].weight[:, :, order], layers[i + 1].bias)
    return layers


def flip_signs(layers, i, signs):
    """The same policies with some tanh units of hidden layer ``i`` negated."""
    layers = list(layers)
    layers[i] = Layer(layers[i].weight * signs.unsqueeze(1), layers[i].bias * signs)
    layers[i + 1] = Layer(layers[i + 1].weight * signs, layers[i + 1].bias)
    return layers


@th.no_grad()
def test_fingerprint_is_invariant_to_the_order_of_hidden_units():
    evaluator, layers = make_evaluator(), LAYOUT.split(th.randn(3, LAYOUT.n_weights))
    permuted = permute_hidden_units(layers, 0, th.tensor([5, 3, 1, 0, 2, 4]))
    permuted = permute_hidden_units(permuted, 1, th.tensor([1, 0, 4, 2, 3]))
    assert not th.allclose(LAYOUT.join(permuted), LAYOUT.join(layers))
    th.testing.assert_close(evaluator.fingerprint(permuted), evaluator.fingerprint(layers))
    th.testing.assert_close(evaluator(permuted), evaluator(layers))


@th.no_grad()
def test_fingerprint_is_invariant_to_negated_tanh_units():
    evaluator, layers = make_evaluator(), LAYOUT.split(th.randn(3, LAYOUT.n_weights))
    flipped = flip_signs(layers, 0, th.tensor([1.0, -1, 1, -1, -1, 1]))
    flipped = flip_signs(flipped, 1, th.tensor([-1.0, -1, 1, 1, -1]))
    assert not th.allclose(LAYOUT.join(flipped), LAYOUT.join(layers))
    th.testing.assert_close(evaluator.fingerprint(flipped), evaluator.fingerprint(layers))
    th.testing.assert_close(evaluator(flipped), evaluator(layers))


@th.no_grad()
def test_fingerprint_differs_between_policies():
    fingerprints = make_evaluator().fingerprint(LAYOUT.split(th.randn(2, LAYOUT.n_weights)))
    assert not th.allclose(fingerprints[0], fingerprints[1])


@pytest.mark.parametrize("squash", [th.tanh, lambda outputs: outputs], ids=["tanh", "logits"])
@th.no_grad()
def test_fingerprint_is_state_major(squash):
    """Linear policies: the actions in probing state k fill the k-th block of the fingerprint."""
    evaluator = make_evaluator(squash)
    layout = WeightLayout((3, 2))
    layers = layout.split(th.randn(2, layout.n_weights))
    fingerprints = evaluator.fingerprint(layers)
    assert fingerprints.shape == (2, 8)
    for policy in range(2):
        weight, bias = layers[0].weight[policy], layers[0].bias[policy]
        for k, state in enumerate(evaluator.probing_states[0]):
            th.testing.assert_close(fingerprints[policy, 2 * k : 2 * k + 2], squash(weight @ state + bias))


def test_gradient_reaches_probing_states_and_policies():
    evaluator = make_evaluator(n_evaluators=2)
    policy_weights = th.randn(2, LAYOUT.n_weights, requires_grad=True)
    evaluator(LAYOUT.split(policy_weights)).sum().backward()
    for parameter in (*evaluator.parameters(), policy_weights):
        assert parameter.grad.any()
    assert evaluator.probing_states.grad.any(dim=2).all()  # each of them


@th.no_grad()
def test_prediction_depends_on_the_probing_states():
    evaluator, layers = make_evaluator(), LAYOUT.split(th.randn(3, LAYOUT.n_weights))
    before = evaluator(layers)
    evaluator.probing_states += 1
    assert not th.allclose(evaluator(layers), before)


def test_predictor_layers():
    evaluator = make_evaluator(n_probing_states=7, n_evaluators=2)
    assert [type(module) for module in evaluator.predictor] == [ParallelLinear, nn.ReLU, ParallelLinear]
    assert evaluator.predictor[0].weight.shape == (2, 7 * 2, 8)
    assert evaluator(LAYOUT.split(th.randn(3, LAYOUT.n_weights))).shape == (2, 3)


def take_out(evaluator, i):
    """A single evaluator with the parameters of the ``i``-th one."""
    single = make_evaluator(n_probing_states=evaluator.probing_states.shape[1])
    single.load_state_dict({name: value[i : i + 1] for name, value in evaluator.state_dict().items()})
    return single


@th.no_grad()
def test_evaluators_are_independent():
    """Side by side they predict what each predicts alone, from other starting points."""
    evaluator, layers = make_evaluator(n_evaluators=3), LAYOUT.split(th.randn(4, LAYOUT.n_weights))
    predictions = evaluator(layers)
    for i in range(3):
        th.testing.assert_close(take_out(evaluator, i)(layers)[0], predictions[i])
    assert (predictions.std(dim=0) > 0).all()


@th.no_grad()
def test_evaluators_of_raw_weights_are_independent():
    evaluator, layers = WeightsEvaluator(3, LAYOUT, net_arch=(8,)), LAYOUT.split(th.randn(4, LAYOUT.n_weights))
    single = WeightsEvaluator(1, LAYOUT, net_arch=(8,))
    single.load_state_dict({name: value[1:2] for name, value in evaluator.state_dict().items()})
    th.testing.assert_close(single(layers)[0], evaluator(layers)[1])


@pytest.mark.parametrize(("n_obs", "n_actions", "n_parameters"), [(8, 2, 170_305), (11, 3, 222_105), (4, 1, 118_305)])
def test_parameter_count_of_the_paper(n_obs, n_actions, n_parameters):
    evaluator = Evaluator(th.rand(1, 200, n_obs), n_actions, th.tanh, th.tanh, net_arch=(256, 256))
    assert sum(p.numel() for p in evaluator.parameters()) == n_parameters
