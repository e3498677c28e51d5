"""GoGePo written plainly from the paper, with the original's numbers: what the package's speed is measured against.

It shares no code with the package. Each hypernetwork is an ``nn.Sequential`` on [embedding, command] of all its tiles. One
policy acts through torch, and torch's Adam is used as it comes.
"""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import torch as th
from torch import nn

N_HIDDEN, TILE, BATCH_SIZE, NOISE = 256, 16, 16, 0.1
#: (weight, bias) of each layer, of one policy or of a batch of them
Policy = list[tuple[th.Tensor, th.Tensor]]


def make_mlp(n_in: int, n_out: int) -> nn.Sequential:
    """Two hidden layers of 256 ReLU units."""
    return nn.Sequential(nn.Linear(n_in, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, n_out))


class LayerGenerator(nn.Module):
    """Commands -> weight and bias of one layer: a slice of both a tile, biases averaged over the tiles of a row."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.height, self.width = min(n_out, TILE), n_in if n_in < N_HIDDEN else TILE
        self.n_rows, self.n_columns = n_out // self.height, n_in // self.width
        self.embeddings = nn.Parameter(th.randn(self.n_rows * self.n_columns, 8))
        self.weights, self.biases = make_mlp(9, self.height * self.width), make_mlp(9, self.height)
        self.scale = 2 / math.sqrt(n_in)

    def forward(self, commands: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """(n,) commands -> (n, n_out, n_in), (n, n_out)"""
        n, n_tiles = len(commands), len(self.embeddings)
        inputs = th.cat([self.embeddings.expand(n, -1, -1), commands.view(n, 1, 1).expand(n, n_tiles, 1)], dim=2)
        tiles = self.weights(inputs).view(n, self.n_rows, self.n_columns, self.height, self.width)
        weight = tiles.transpose(2, 3).reshape(n, self.n_rows * self.height, self.n_columns * self.width)
        bias = self.biases(inputs).view(n, self.n_rows, self.n_columns, self.height).mean(dim=2).flatten(1)
        return self.scale * weight, self.scale * bias


class Evaluator(nn.Module):
    """Policies -> predicted returns, from what they do in 200 learned probing states."""

    def __init__(self, n_obs: int, n_actions: int) -> None:
        super().__init__()
        self.probing_states = nn.Parameter(th.rand(200, n_obs))
        self.predictor = make_mlp(200 * n_actions, 1)

    def forward(self, policies: Policy) -> th.Tensor:
        """N policies -> (n,) returns."""
        actions = self.probing_states.expand(len(policies[0][0]), -1, -1)
        for weight, bias in policies:
            actions = th.tanh(th.baddbmm(bias.unsqueeze(1), actions, weight.transpose(1, 2)))
        return self.predictor(actions.flatten(1)).squeeze(1)


class PlainGoGePo:
    """Algorithm 1 on an env whose actions lie in [-1, 1].

    :param env: the env.
    :param return_range: (lowest, highest) return; commands are divided by what lies between.
    """

    def __init__(self, env: gym.Env, return_range: tuple[float, float] = (-100.0, 365.0)) -> None:
        self.env, self.span = env, return_range[1] - return_range[0]
        assert env.observation_space.shape is not None
        assert env.action_space.shape is not None
        n_obs, n_actions = env.observation_space.shape[0], env.action_space.shape[0]
        self.sizes = [(n_obs, N_HIDDEN), (N_HIDDEN, N_HIDDEN), (N_HIDDEN, n_actions)]
        self.generator = nn.ModuleList(LayerGenerator(*size) for size in self.sizes)
        self.evaluator = Evaluator(n_obs, n_actions)
        self.generator_optimizer = th.optim.Adam(self.generator.parameters(), lr=2e-6)
        self.evaluator_optimizer = th.optim.Adam(self.evaluator.parameters(), lr=5e-3)
        self.policies: list[Policy] = []
        self.returns: list[float] = []
        self.best_return, self.rng = 0.0, np.random.default_rng(0)

    def generate(self, commands: th.Tensor) -> Policy:
        """(n,) commands -> n policies."""
        return [layer(commands / self.span) for layer in self.generator]

    def add_random_policies(self, n: int) -> None:
        """As if there had been n episodes."""
        for _ in range(n):
            self.policies.append([(NOISE * th.randn(n_out, n_in), NOISE * th.randn(n_out)) for n_in, n_out in self.sizes])
            self.returns.append(float(self.rng.normal(30, 10)))

    def learn_episode(self) -> int:
        """One episode with noise on the weights, then its gradient steps; returns the env steps made."""
        with th.no_grad():
            generated = self.generate(th.tensor([self.best_return + 20]))
            policy = [(w[0] + NOISE * th.randn(w[0].shape), b[0] + NOISE * th.randn(b[0].shape)) for w, b in generated]
            episode_return, n_steps = self.run_episode(policy)
        self.policies.append(policy)
        self.returns.append(episode_return)
        self.best_return = max(self.best_return, episode_return)
        self.train()
        return n_steps

    def run_episode(self, policy: Policy) -> tuple[float, int]:
        """Return and length of one episode."""
        observation, _ = self.env.reset(seed=len(self.returns))
        episode_return, n_steps, is_over = 0.0, 0, False
        while not is_over:
            units = th.as_tensor(observation, dtype=th.float32)
            for weight, bias in policy:
                units = th.tanh(th.addmv(bias, weight, units))
            observation, reward, terminated, truncated, _ = self.env.step(units.numpy())
            episode_return, n_steps, is_over = episode_return + float(reward), n_steps + 1, terminated or truncated
        return episode_return, n_steps

    def train(self) -> None:
        """4 evaluator steps, then 19 generator steps."""
        for _ in range(4):
            drawn = self.draw()
            policies = [
                (th.stack([self.policies[i][layer][0] for i in drawn]), th.stack([self.policies[i][layer][1] for i in drawn]))
                for layer in range(3)
            ]
            self.step(self.evaluator_optimizer, self.evaluator(policies), self.returns_of(drawn))
        self.evaluator.requires_grad_(False)
        for _ in range(19):
            commands = self.returns_of(self.draw())
            self.step(self.generator_optimizer, self.evaluator(self.generate(commands)), commands)
        self.evaluator.requires_grad_(True)

    def draw(self) -> np.ndarray:
        """A batch of indices, in proportion to 1 / age^1.1."""
        weights = np.arange(len(self.returns), 0, -1.0) ** -1.1
        return self.rng.choice(len(weights), BATCH_SIZE, p=weights / weights.sum())

    def returns_of(self, drawn: np.ndarray) -> th.Tensor:
        """The returns of the policies drawn."""
        return th.tensor([self.returns[i] for i in drawn], dtype=th.float32)

    @staticmethod
    def step(optimizer: th.optim.Optimizer, predictions: th.Tensor, returns: th.Tensor) -> None:
        """One step on the mean squared error."""
        loss = (predictions - returns).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
