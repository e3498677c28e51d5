"""Each bad input that GoGePo alone can be given; see ``tests/algorithms/test_bad_input.py`` for the others."""

import numpy as np
import pytest

from tests.conftest import TINY

ARGUMENTS = [
    (dict(evaluator_learning_rate=-1), "evaluator_learning_rate must be a finite number >= 0, got -1"),
    (dict(evaluator_learning_rate=np.inf), "evaluator_learning_rate must be a finite number >= 0, got inf"),
    (dict(recency=-0.1), "recency must be a finite number >= 0, got -0.1"),
    (dict(recency=np.inf), "recency must be a finite number >= 0, got inf"),
    (dict(evaluator_gradient_steps=-1), "evaluator_gradient_steps must be an integer >= 0, got -1"),
    (dict(evaluator_gradient_steps=0.5), "evaluator_gradient_steps must be an integer >= 0, got 0.5"),
    (dict(generator_gradient_steps=-1), "generator_gradient_steps must be an integer >= 0, got -1"),
    (dict(elite_fraction=1.5), r"elite_fraction must be a number in \[0, 1\], got 1.5"),
    (dict(imitation_coef=-0.5), "imitation_coef must be a finite number >= 0, got -0.5"),
    (dict(elite_fraction=np.nan), r"elite_fraction must be a number in \[0, 1\], got nan"),
    (dict(n_warm_up_episodes=-1), "n_warm_up_episodes must be an integer >= 0, got -1"),
    (dict(n_warm_up_episodes=2.5), "n_warm_up_episodes must be an integer >= 0, got 2.5"),
    (dict(prune_after=-0.1), r"prune_after must be a number in \[0, 1\], got -0.1"),
    (dict(prune_after="late"), r"prune_after must be a number in \[0, 1\], got 'late'"),
]

POLICY_ARGUMENTS = [
    (dict(evaluator_net_arch=[-3]), r"evaluator_net_arch must be a list of integers >= 1, got \[-3\]"),
    (dict(n_probing_states=0), "n_probing_states must be an integer >= 1, got 0"),
    (dict(probing_states_init="zeros"), "probing_states_init must be one of 'uniform', 'normal', got 'zeros'"),
]


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS, ids=[message for _, message in ARGUMENTS])
def test_constructor_arguments(arguments, message, make_model):
    with pytest.raises(ValueError, match=message):
        make_model(**arguments)


@pytest.mark.parametrize(("arguments", "message"), POLICY_ARGUMENTS, ids=[message for _, message in POLICY_ARGUMENTS])
def test_policy_arguments(arguments, message, make_model):
    with pytest.raises(ValueError, match=message):
        make_model(policy_kwargs={**TINY, **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        dict(learning_rate=0.0, evaluator_learning_rate=0),
        dict(recency=0),
        dict(elite_fraction=0),
        dict(imitation_coef=0),
        dict(evaluator_gradient_steps=0),
        dict(generator_gradient_steps=0),
        dict(evaluator_gradient_steps=0, generator_gradient_steps=0),
        dict(weight_noise_std=0),
    ],
    ids=str,
)
def test_the_bounds_themselves_are_fine(arguments, make_model):
    make_model(**arguments).learn(15)
