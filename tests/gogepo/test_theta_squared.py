"""The paper's example: return = theta ** 2, so every return but 0 has two policies, and their average is none."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.logger import Logger

from sb3_gogepo import GoGePo
from tests.toy_envs import Square

COMMANDS = np.array([0.25, 0.4, 0.55])
OBSERVATION = np.ones(1, np.float32)


def make_model(seed):
    return GoGePo(
        "MlpPolicy",
        Square(),
        policy_kwargs=dict(net_arch=[], generator_net_arch=[32], n_probing_states=4, evaluator_net_arch=[32, 32]),
        learning_rate=1e-3,
        evaluator_learning_rate=5e-3,
        batch_size=32,
        recency=0.0,
        imitation_coef=0.0,  # that, too, is regression
        train_freq=(10, "episode"),
        evaluator_gradient_steps=20,
        generator_gradient_steps=20,
        n_candidates=10,
        normalize_observations=False,
        seed=seed,
        device="cpu",
    )


def fill_with_random_policies(model, n):
    """Linear policies a = tanh(w + b) that are as often on one side of 0 as on the other; (n,) their actions."""
    policy_weights = th.randn(n, 2, generator=th.Generator().manual_seed(0))
    policy_weights[n // 2 :] = -policy_weights[: n // 2]
    actions = th.tanh(policy_weights.sum(dim=1)).numpy()
    for weights, action in zip(policy_weights, actions, strict=True):
        model.replay_buffer.add(weights, command=0.0, episode_return=float(action**2))
    return actions


def actions_of(model, commands):
    return np.array([model.generate_policy(command).predict(OBSERVATION)[0][0] for command in commands])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_generator_finds_a_root_where_regression_averages_both(seed):
    model = make_model(seed)
    stored = fill_with_random_policies(model, 400)

    # Regression from returns to policies: the mean of the policies near each return
    averaged = [stored[np.abs(stored**2 - command) < 0.1].mean() for command in COMMANDS]
    np.testing.assert_allclose(averaged, 0, atol=1e-6)

    model.set_logger(Logger(folder=None, output_formats=[]))
    for _ in range(30):
        model.train(1)
    actions = actions_of(model, COMMANDS)
    np.testing.assert_allclose(np.abs(actions), np.sqrt(COMMANDS), atol=0.1)
    sweep = model.evaluate_commands(COMMANDS, n_eval_episodes=1)
    np.testing.assert_allclose(sweep.mean_returns, actions**2, rtol=1e-4)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_learning_reaches_the_highest_return(seed):
    """By its own exploration, from commands just above the best return so far."""
    model = make_model(seed).learn(400)
    action, _ = model.predict(OBSERVATION)
    assert action[0] ** 2 > 0.85  # the command is the best return, close to 1
