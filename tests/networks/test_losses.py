import pytest
import torch as th
from stable_baselines3.common.logger import Logger

from sb3_gogepo.networks.losses import evaluator_loss, generator_loss
from sb3_gogepo.networks.policy_weights import WeightLayout

LAYOUT = WeightLayout((1, 1))


def sum_of_weights(layers):
    """An 'evaluator' that predicts weight + bias of the linear policy."""
    return (layers[0].weight[:, 0, 0] + layers[0].bias[:, 0]).unsqueeze(0)


@pytest.mark.parametrize("loss", [evaluator_loss, generator_loss])
def test_value_by_hand(loss):
    layers = LAYOUT.split(th.tensor([[1.0, 2.0], [0.0, -1.0]]))  # predictions 3 and -1
    assert loss(sum_of_weights, layers, th.tensor([1.0, 0.0]), counts=th.tensor([3.0, 1.0])).item() == (3 * 2**2 + 1**2) / 4


def test_disagreement_adds_its_variance():
    """Two evaluators at 1 and 2 above the truth: (1 + 4) / 2, that is their mean's error squared plus their variance."""

    def two(layers):
        prediction = sum_of_weights(layers)
        return th.cat([prediction + 1, prediction + 2])

    layers = LAYOUT.split(th.tensor([[1.0, 2.0]]))
    assert generator_loss(two, layers, th.tensor([3.0]), counts=th.ones(1)).item() == 1.5**2 + 0.5**2


def test_gradient_by_hand():
    policy_weights = th.tensor([[1.0, 2.0], [0.0, -1.0]], requires_grad=True)
    generator_loss(sum_of_weights, LAYOUT.split(policy_weights), th.tensor([1.0, 0.0]), counts=th.ones(2)).backward()
    assert policy_weights.grad.tolist() == [[2.0, 2.0], [-1.0, -1.0]]  # 2 * error / batch size


def fill_buffer(model, n=8):
    """Make ``model`` ready for training steps, with ``n`` policies."""
    model.set_logger(Logger(folder=None, output_formats=[]))
    rng = th.Generator().manual_seed(0)
    for i in range(n):
        model.replay_buffer.add(th.randn(model.policy.layout.n_weights, generator=rng), float(i), float(i))
    model._update_scalers()
    model._update_learning_rates()


def parameters_of(module):
    return th.nn.utils.parameters_to_vector(module.parameters()).clone()


def test_train_generator_moves_the_generator_and_not_the_evaluator(make_model):
    model = make_model()
    fill_buffer(model)
    model.policy.generator.zero_grad()
    model.policy.evaluator.zero_grad()
    generator, evaluator = parameters_of(model.policy.generator), parameters_of(model.policy.evaluator)
    model.train_generator()
    assert not th.equal(parameters_of(model.policy.generator), generator)
    assert th.equal(parameters_of(model.policy.evaluator), evaluator)
    assert all(p.grad is None for p in model.policy.evaluator.parameters())
    assert all(p.requires_grad for p in model.policy.evaluator.parameters())  # trainable again
    for name, parameter in model.policy.generator.named_parameters():
        assert parameter.grad is not None, name


def test_train_evaluator_moves_the_evaluator_and_not_the_generator(make_model):
    model = make_model(evaluator_learning_rate=1e-2)
    fill_buffer(model)
    generator, evaluator = parameters_of(model.policy.generator), parameters_of(model.policy.evaluator)
    probing_states = model.policy.evaluator.probing_states.clone()
    model.train_evaluator()
    assert th.equal(parameters_of(model.policy.generator), generator)
    assert not th.equal(parameters_of(model.policy.evaluator), evaluator)
    assert not th.equal(model.policy.evaluator.probing_states, probing_states)


def test_imitation_leads_the_generator_to_its_elites(make_model):
    """Without the evaluator's help: its prediction has no gradient here."""
    distances = {}
    for imitation_coef in (0.0, 100.0):
        model = make_model(imitation_coef=imitation_coef, elite_fraction=1.0, learning_rate=1e-2, recency=0.0)
        fill_buffer(model, n=2)
        for parameter in model.policy.evaluator.predictor.parameters():
            parameter.data.zero_()
        for _ in range(300):
            model.train_generator()
        stored = th.stack(model.replay_buffer.policy_weights)
        distances[imitation_coef] = (model.policy.generate_weights([0.0, 1.0]) - stored).square().mean().item()
    assert distances[100.0] < 0.1 * distances[0.0]


def test_evaluator_learns_the_returns_it_is_shown(make_model):
    model = make_model(evaluator_learning_rate=1e-2)
    fill_buffer(model)
    first = model.train_evaluator()
    for _ in range(100):
        last = model.train_evaluator()
    assert last < 0.1 * first
