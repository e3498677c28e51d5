"""The example return = theta^2: GoGePo finds a root, regression averages both. Draws ``docs/figures/theta_squared.svg``.

``python -m benchmarks.studies.theta_squared``; seconds on one core. Needs matplotlib.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.logger import Logger

from sb3_gogepo import UDRLPG, GoGePo
from sb3_gogepo.base.generator_algorithm import GeneratorAlgorithm

OBSERVATION = np.ones(1, np.float32)


class Square(gym.Env):
    """One step; the return is the action squared."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """The observation is always 1."""
        super().reset(seed=seed)
        return OBSERVATION, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """The end."""
        return OBSERVATION, float(action[0]) ** 2, True, False, {}


def make_models(seed: int) -> list[GeneratorAlgorithm]:
    """GoGePo and UDRLPG with the same generator of linear policies a = tanh(w + b)."""
    common: dict = dict(env=Square(), batch_size=32, normalize_observations=False, seed=seed, device="cpu")
    generator: dict = dict(net_arch=[], generator_net_arch=[32])
    gogepo = GoGePo(
        "MlpPolicy",
        policy_kwargs=dict(**generator, n_probing_states=4, evaluator_net_arch=[32, 32]),
        learning_rate=1e-3,
        evaluator_learning_rate=5e-3,
        recency=0.0,
        imitation_coef=0.0,  # that, too, is regression
        evaluator_gradient_steps=20,
        generator_gradient_steps=20,
        **common,
    )
    udrlpg = UDRLPG(
        "MlpPolicy",
        policy_kwargs=generator,
        bucket_size=1000,
        rank_scale=0.0,
        gradient_steps=20,
        n_warm_up_episodes=0,
        **common,
    )
    return [gogepo, udrlpg]


def train_on_random_policies(model: GeneratorAlgorithm, n_policies: int, n_rounds: int) -> None:
    """As many stored policies act above 0 as below, in pairs of the same return."""
    policy_weights = th.randn(n_policies, 2, generator=th.Generator().manual_seed(0))
    policy_weights[n_policies // 2 :] = -policy_weights[: n_policies // 2]
    for weights in policy_weights:
        model.replay_buffer.add(weights, command=0.0, episode_return=float(th.tanh(weights.sum())) ** 2)
    model.set_logger(Logger(folder=None, output_formats=[]))
    for _ in range(n_rounds):
        model.train(1)


def main() -> None:
    """Train both and draw the actions of the policies they generate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", default="docs/figures/theta_squared.svg")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    commands = np.linspace(0.05, 0.9, 18)
    plt.rcParams["svg.hashsalt"] = "theta"  # the same file each time
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for sign in (-1, 1):
        axes.plot(commands, sign * np.sqrt(commands), color="0.7", label="roots" if sign == 1 else None)
    for model, marker in zip(make_models(arguments.seed), "o^", strict=True):
        train_on_random_policies(model, n_policies=400, n_rounds=30)
        weights = model.policy.generate_weights(commands)
        actions = th.tanh(weights.sum(dim=1)).numpy()
        name = type(model).__name__
        axes.plot(commands, actions, marker, label=name)
        print(f"{name}: mean |action^2 - command| = {np.abs(actions**2 - commands).mean():.3f}")
    axes.set(xlabel="command (desired return)", ylabel="action of the generated policy", ylim=(-1, 1))
    axes.legend()
    figure.savefig(arguments.path, metadata={"Date": None})


if __name__ == "__main__":
    main()
