"""What is exported: modules from raw observations, and commands, to the env's actions, in float32 throughout.

Many engines that run such files have no float64. So what a policy does in float64, subtracting a mean or an offset, is done
here with numbers that are split into a float32 and the rest of it: a difference is as exact then.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_gogepo.networks.action_map import ActionMap
from sb3_gogepo.networks.normalization import ObservationNormalizer
from sb3_gogepo.networks.policies import GeneratedPolicy, GeneratorPolicy
from sb3_gogepo.networks.policy_weights import forward_policies

#: types of a Box's actions that files can hold
ACTION_DTYPES = ("float16", "float32", "float64")


class Subtract(nn.Module):
    """float32 values minus a float64 constant, rounded once.

    :param constant: what is subtracted; its shape broadcasts with the values.
    """

    high: th.Tensor
    low: th.Tensor

    def __init__(self, constant: th.Tensor) -> None:
        super().__init__()
        high = constant.float()
        self.register_buffer("high", high)
        self.register_buffer("low", (constant - high.double()).float())

    def forward(self, values: th.Tensor) -> th.Tensor:
        """float32 values -> float32 differences."""
        return values - self.high - self.low


class Standardize(nn.Module):
    """Raw observations -> what the policies see, as their ObservationNormalizer does it.

    :param normalizer: the policy's.
    """

    divisor: th.Tensor

    def __init__(self, normalizer: ObservationNormalizer) -> None:
        super().__init__()
        self.subtract_mean = Subtract(normalizer.mean.cpu())
        self.register_buffer("divisor", normalizer._divisor().float().cpu())
        self.rounds_to_half = normalizer.dtype == np.float16

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """(n, n_obs) float32 -> (n, n_obs) float32."""
        if self.rounds_to_half:
            observations = observations.half().float()
        return self.subtract_mean(observations) / self.divisor


class ScaleCommands(nn.Module):
    """Commands in return units -> what the generator sees: calibrated, where the policy is, then scaled.

    :param policy: whose calibration and command scaler count.
    """

    scale: th.Tensor
    asked: th.Tensor
    widths: th.Tensor
    scaled: th.Tensor

    def __init__(self, policy: GeneratorPolicy) -> None:
        super().__init__()
        offset, scale = policy.command_scaler.offset.cpu(), policy.command_scaler.scale.cpu()
        self.subtract_offset = Subtract(offset)
        self.register_buffer("scale", scale.float())
        self.is_calibrated = bool(policy.calibration.is_on)
        if self.is_calibrated:
            asked, commands = policy.calibration.asked.cpu(), policy.calibration.commands.cpu()
            self.subtract_asked = Subtract(asked[:-1])
            self.register_buffer("asked", asked.float())
            self.register_buffer("widths", asked.diff().float())
            self.register_buffer("scaled", ((commands - offset) / scale).float())

    def forward(self, commands: th.Tensor) -> th.Tensor:
        """(n,) float32 in return units -> (n,) float32."""
        plain = self.subtract_offset(commands) / self.scale
        if not self.is_calibrated:
            return plain
        piece = (commands[:, None] >= self.asked[1:-1]).sum(dim=1)  # which piece of the calibration a command lies in
        shares = (self.subtract_asked(commands[:, None]) / self.widths).gather(1, piece[:, None]).squeeze(1)
        start, end = self.scaled.index_select(0, piece), self.scaled.index_select(0, piece + 1)
        inside = (commands >= self.asked[0]) & (commands <= self.asked[-1])
        return th.where(inside, start + shares * (end - start), plain)


class EnvActions(nn.Module):
    """Last-layer outputs -> the env's actions: scaled and clipped to a Box's bounds, or the chosen ones of a Discrete.

    :param action_space: of the env.
    :raises ValueError: for a Box of numbers that files cannot hold.
    """

    center: th.Tensor
    half_range: th.Tensor
    low: th.Tensor
    high: th.Tensor

    def __init__(self, action_space: spaces.Box | spaces.Discrete) -> None:
        super().__init__()
        self.action_map = ActionMap(action_space)
        if isinstance(action_space, spaces.Box):
            name = np.dtype(action_space.dtype).name
            if name not in ACTION_DTYPES:
                raise ValueError(
                    f"action_space must be Discrete, or a Box of {', '.join(ACTION_DTYPES)}, for an export, got {action_space}"
                )
            self.dtype: th.dtype = getattr(th, name)
            self.register_buffer("center", th.as_tensor(self.action_map.center, dtype=self.dtype))
            self.register_buffer("half_range", th.as_tensor(self.action_map.half_range, dtype=self.dtype))
            self.register_buffer("low", th.as_tensor(action_space.low))
            self.register_buffer("high", th.as_tensor(action_space.high))

    def forward(self, outputs: th.Tensor) -> th.Tensor:
        """(n, n_outputs) float32 -> (n, \\*action_shape) in the space's type, or (n,) int64."""
        chosen = self.action_map.choose(outputs)
        if self.action_map.is_discrete:
            return chosen
        unit = chosen.to(self.dtype).reshape(-1, *self.low.shape)
        return th.minimum(th.maximum(self.center + self.half_range * unit, self.low), self.high)


class PolicyGraph(nn.Module):
    """One policy.

    :param policy: the policy of one command.
    """

    input_names = ("observation",)

    def __init__(self, policy: GeneratedPolicy) -> None:
        super().__init__()
        self.standardize = Standardize(policy.normalizer)
        self.mlp = copy.deepcopy(policy.mlp).cpu()
        self.act = EnvActions(policy.action_space)  # type: ignore[arg-type]

    def forward(self, observation: th.Tensor) -> th.Tensor:
        """(n, n_obs) raw observations -> (n, \\*action_shape) actions of the env."""
        return self.act(self.mlp(self.standardize(observation)))


class GeneratorGraph(nn.Module):
    """The whole generator: a policy with a knob.

    :param policy: the model's.
    """

    input_names = ("observation", "command")

    def __init__(self, policy: GeneratorPolicy) -> None:
        super().__init__()
        self.standardize = Standardize(policy.normalizer)
        self.scale_commands = ScaleCommands(policy)
        self.generator = copy.deepcopy(policy.generator).cpu()
        self.activation: Any = copy.deepcopy(policy.activation)
        self.act = EnvActions(policy.action_space)

    def forward(self, observation: th.Tensor, command: th.Tensor) -> th.Tensor:
        """(n, n_obs) raw observations, (n,) commands -> (n, \\*action_shape) actions of the commands' policies."""
        layers = self.generator.generate_layers(self.scale_commands(command))
        outputs = forward_policies(layers, self.standardize(observation).unsqueeze(1), self.activation)
        return self.act(outputs.squeeze(1))
