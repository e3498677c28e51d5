import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_gogepo.gogepo.policies import GoGePoPolicy

OBSERVATION_SPACE = spaces.Box(-1, 1, (3,), np.float32)
ACTION_SPACE = spaces.Box(np.array([-1.0, 10.0], np.float32), np.array([3.0, 20.0], np.float32))


def make_policy(action_space=ACTION_SPACE, **kwargs):
    return GoGePoPolicy(OBSERVATION_SPACE, action_space, net_arch=[4], **kwargs)


def test_initial_probing_states():
    uniform = make_policy(n_probing_states=500, probing_states_init="uniform").evaluator.probing_states
    assert uniform.shape == (5, 500, 3)
    assert 0 <= uniform.min() < 0.05
    assert 0.95 < uniform.max() < 1
    normal = make_policy(n_probing_states=500, probing_states_init="normal").evaluator.probing_states
    assert abs(normal.mean()) < 0.1
    assert normal.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("scale_probing_actions", "low", "high"), [(False, [-1, -1], [1, 1]), (True, [-1, 10], [3, 20])], ids=["unit", "env units"]
)
@th.no_grad()
def test_probing_actions(scale_probing_actions, low, high):
    """Of policies that act at their lowest and at their highest: all weights 0, all output biases -50 or 50."""
    policy = make_policy(n_evaluators=2, n_probing_states=2, scale_probing_actions=scale_probing_actions)
    policy_weights = th.zeros(2, policy.layout.n_weights)
    policy_weights[0, -2:], policy_weights[1, -2:] = -50, 50
    fingerprints = policy.evaluator.fingerprint(policy.layout.split(policy_weights))
    np.testing.assert_allclose(fingerprints, [low * 4, high * 4], rtol=1e-6)


@th.no_grad()
def test_probing_actions_of_discrete_policies_are_the_logits():
    policy = make_policy(spaces.Discrete(3, start=5), n_evaluators=1, n_probing_states=2)
    policy_weights = th.zeros(1, policy.layout.n_weights)
    policy_weights[0, -3:] = th.tensor([7.0, -8.0, 9.0])
    assert policy.evaluator.fingerprint(policy.layout.split(policy_weights)).tolist() == [[7, -8, 9] * 2]


def test_constructor_parameters_rebuild_the_policy():
    policy = make_policy(
        activation_fn=th.nn.ELU,
        tile_size=3,
        generator_net_arch=[5],
        embedding_dim=2,
        output_scale=0.5,
        average_tile_biases=True,
        n_evaluators=3,
        n_probing_states=7,
        evaluator_net_arch=[6],
        probing_states_init="uniform",
        scale_probing_actions=True,
        optimizer_class=th.optim.SGD,
        optimizer_kwargs=dict(momentum=0.5),
    )
    arguments = policy._get_constructor_parameters()
    copy = GoGePoPolicy(**arguments)
    copy.load_state_dict(policy.state_dict())
    assert copy._get_constructor_parameters() == arguments
    observations = np.ones((2, 3), np.float32)
    assert np.array_equal(copy.predict(observations)[0], policy.predict(observations)[0])
    assert np.array_equal(copy.predict_returns([1.0]), policy.predict_returns([1.0]))


@th.no_grad()
def test_evaluator_of_raw_weights():
    """With all layers of the predictor but a linear one gone, the prediction is a weighted sum of the policy's weights."""
    policy = make_policy(evaluator_input="weights", n_evaluators=1, evaluator_net_arch=[])
    (linear,) = policy.evaluator.predictor
    linear.weight.copy_(th.arange(policy.layout.n_weights).reshape(1, -1, 1))
    linear.bias.fill_(3)
    policy_weights = th.zeros(2, policy.layout.n_weights)
    policy_weights[0, 1], policy_weights[1, -1] = 10, 1
    predictions = policy.evaluator(policy.layout.split(policy_weights))
    assert predictions.tolist() == [[13, policy.layout.n_weights + 2]]


def test_wrong_evaluator_input():
    with pytest.raises(ValueError, match=r"evaluator_input must be one of 'probing_actions', 'weights', got 'actions'"):
        make_policy(evaluator_input="actions")
