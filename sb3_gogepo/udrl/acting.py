"""CommandActors: the behavior function in the envs of a rollout, with true rewards in the command."""

from __future__ import annotations

import numpy as np
import torch as th
from torch import nn

from sb3_gogepo.networks.policy_weights import as_numpy_function
from sb3_gogepo.udrl.policies import BehaviorOutputs, UDRLPolicy

IDLE = -1  # in place of a candidate: the env steps on, but nobody looks


class CommandActors:
    """Each env runs a candidate of its own: a command, a random generator, or random actions instead (the warm-up).

    In NumPy, and one env after the other in each product, so that what a candidate does does not depend on the number
    of envs.

    :param commands: (n_candidates, 2) desired returns and horizons; nan: random actions.
    :param rngs: (n_candidates,) generators of their actions; None: the mean or the most likely action.
    :param reward_offset: added to each reward before it is taken from the desired return.
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
        behavior = policy.behavior
        linears = [behavior.observation_layer, behavior.command_layer, *behavior.rest]
        self.layers = [
            (layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy())
            for layer in linears
            if isinstance(layer, nn.Linear)
        ]
        self.activation = as_numpy_function(behavior.activation)
        self.offsets = np.array([policy.return_scaler.offset.item(), policy.horizon_scaler.offset.item()])
        self.scales = np.array([policy.return_scaler.scale.item(), policy.horizon_scaler.scale.item()])

    def start(self, env_index: int, candidate: int) -> None:
        """From now on, env ``env_index`` runs this candidate, from the beginning of its command."""
        self.running[env_index] = candidate
        self.state[env_index] = self.commands[candidate]

    def observe(self, rewards: np.ndarray) -> None:
        """Take the (n_envs,) rewards from the desired returns, and a step from the desired horizons."""
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
        return self.policy.to_env(stored)

    def _outputs(self, observations: np.ndarray) -> BehaviorOutputs:
        commands = (np.nan_to_num(self.state) - self.offsets) / self.scales
        observation_layer, command_layer, *rest = self.layers
        gate = (1 + np.tanh(_apply(command_layer, commands.astype(np.float32)) / 2)) / 2  # the sigmoid, without overflow
        hidden = self.activation(_apply(observation_layer, observations)) * gate
        for i, layer in enumerate(rest):
            hidden = _apply(layer, self.activation(hidden) if i else hidden)
        outputs = th.from_numpy(hidden)
        log_std_range = self.policy.behavior.log_std_range
        if log_std_range is None:
            return BehaviorOutputs(means=outputs, log_stds=None)
        means, log_stds = outputs.split(self.policy.behavior.n_outputs, dim=1)
        return BehaviorOutputs(means=th.tanh(means), log_stds=log_stds.clamp(*log_std_range))

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


def _apply(layer: tuple[np.ndarray, np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """(n, n_in) -> (n, n_out), a product for each row: the same result whatever n is."""
    weight, bias = layer
    return np.matmul(weight, inputs[:, :, None])[:, :, 0] + bias
