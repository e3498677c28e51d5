"""CommandActors: the behavior function in the envs of a rollout, with true rewards in the command."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch as th
from torch import nn

from sb3_gogepo.networks.policy_weights import as_numpy_function
from sb3_gogepo.udrl.policies import BehaviorOutputs, UDRLPolicy

IDLE = -1  # in place of a candidate's number, where the env has none and only steps along


class CommandActors:
    """Each env runs a candidate of its own: it acts on a command, or randomly while warming up.

    The behavior function runs in NumPy here, with one product for each env, so that what a candidate does does not depend
    on the number of envs.

    :param policy: the behavior function, with its scaling and observation statistics. It must not change while this acts.
    :param commands: (n_candidates, 2) desired return and horizon of each candidate; nan: the candidate acts randomly.
    :param rngs: one random generator a candidate, from which its actions are drawn; None: all act deterministically, with
        the mean or the most likely action.
    :param n_envs: number of envs; the first candidates begin in the first of them.
    :param reward_offset: added to each reward before it is subtracted from the desired return.
    """

    def __init__(
        self,
        policy: UDRLPolicy,
        commands: np.ndarray,
        rngs: list[np.random.Generator] | None,
        n_envs: int,
        reward_offset: float = 0.0,
    ) -> None:
        self.policy, self.commands, self.rngs, self.reward_offset = policy, commands, rngs, reward_offset
        self.running = [i if i < len(commands) else IDLE for i in range(n_envs)]
        self.state = np.ones((n_envs, 2))
        self.state[: len(commands)] = commands[:n_envs]
        self.normalize = policy.normalizer.frozen()
        self.functions = {module: _as_function(module) for module in policy.behavior.modules()}
        self.functions[policy.behavior.gate] = _sigmoid
        self.scale_returns, self.scale_horizons = policy.return_scaler.frozen(), policy.horizon_scaler.frozen()

    def start(self, env_index: int, candidate: int) -> None:
        """From now on, env ``env_index`` runs this candidate, whose command is the initial one again."""
        self.running[env_index] = candidate
        self.state[env_index] = self.commands[candidate]

    def observe(self, rewards: np.ndarray) -> None:
        """Subtract the (n_envs,) rewards from the desired returns, and one step from the desired horizons."""
        self.state[:, 0] -= rewards + self.reward_offset
        self.state[:, 1] = np.maximum(self.state[:, 1] - 1, 1)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """(n_envs, n_obs) raw -> (n_envs, \\*action_shape) actions of the env."""
        outputs = self._outputs(self.normalize(observations))
        noise = None if self.rngs is None else th.from_numpy(self._noise(outputs.means.shape[1]))
        stored = self.policy.choose(outputs, noise).numpy()
        for i in np.flatnonzero(np.isnan(self.state[:, 0])):
            assert self.rngs is not None
            stored[i] = self._random_action(self.rngs[self.running[i]])
        return self.policy.action_map.unscale(stored)

    def _outputs(self, observations: np.ndarray) -> BehaviorOutputs:
        returns, horizons = np.nan_to_num(self.state).T
        commands = np.stack([self.scale_returns(returns), self.scale_horizons(horizons)], axis=1)
        behavior = self.policy.behavior
        outputs = behavior.last_layer(observations, commands, function_of=self.functions.__getitem__)
        return behavior.to_distributions(th.from_numpy(outputs))

    def _noise(self, n_outputs: int) -> np.ndarray:
        assert self.rngs is not None
        rows = []
        for k in self.running:
            if k == IDLE:
                rows.append(np.zeros(n_outputs))
                continue
            rng = self.rngs[k]
            rows.append(rng.gumbel(size=n_outputs) if self.policy.action_map.is_discrete else rng.standard_normal(n_outputs))
        return np.stack(rows).astype(np.float32)

    def _random_action(self, rng: np.random.Generator) -> np.ndarray:
        n_outputs = self.policy.action_map.n_outputs
        return rng.integers(n_outputs, size=1) if self.policy.action_map.is_discrete else rng.uniform(-1, 1, size=n_outputs)


def _as_function(module: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """A module, with its present weights, as a function of (n, n_in) rows; each row's result is independent of the others."""
    if isinstance(module, nn.Linear):
        return partial(_product_by_row, module.weight.detach().cpu().numpy(), module.bias.detach().cpu().numpy())
    return as_numpy_function(module)


def _product_by_row(weight: np.ndarray, bias: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """(n, n_in) -> (n, n_out)."""
    return np.matmul(weight, inputs[:, :, None])[:, :, 0] + bias


def _sigmoid(values: np.ndarray) -> np.ndarray:
    """The logistic function, without overflow."""
    return (1 + np.tanh(values / 2)) / 2
