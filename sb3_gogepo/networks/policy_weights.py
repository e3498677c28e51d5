"""WeightLayout: one flat vector of policy weights <-> the layers of an MLP; forward of many MLP policies at once.

The flat order is that of the original code (IDSIA/GoGePo ``core_gogepo.py``) and of ``torch.nn.Sequential``'s
parameters: W1 (n_out, n_in) row-major, b1, W2, b2, ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch as th
from torch import nn


class Layer(NamedTuple):
    """One linear layer of ``n_policies`` policies: weight (n_policies, n_out, n_in), bias (n_policies, n_out)."""

    weight: th.Tensor
    bias: th.Tensor


class WeightLayout:
    """Where each weight of an MLP policy lies in its flat vector.

    :param layer_sizes: units of each layer, input and output included, e.g. ``(n_obs, 256, 256, n_actions)``.
    :raises ValueError: if fewer than two sizes are given or one of them is not a positive integer.
    """

    def __init__(self, layer_sizes: Sequence[int]) -> None:
        sizes = tuple(layer_sizes)
        if len(sizes) < 2 or any(int(size) != size or size < 1 for size in sizes):
            raise ValueError(f"layer_sizes must be two or more positive integers, got {list(layer_sizes)}")
        self.layer_sizes = tuple(int(size) for size in sizes)
        #: (n_in, n_out) of each layer
        self.shapes = list(pairwise(self.layer_sizes))
        self.n_weights = sum(n_in * n_out + n_out for n_in, n_out in self.shapes)

    def fan_in(self) -> th.Tensor:
        """(n_weights,) inputs of the layer each weight or bias belongs to."""
        return th.cat([th.full((n_in * n_out + n_out,), float(n_in)) for n_in, n_out in self.shapes])

    def split(self, policy_weights: th.Tensor) -> list[Layer]:
        """(n_policies, n_weights) -> one :class:`Layer` of views for each linear layer."""
        if policy_weights.ndim != 2 or policy_weights.shape[1] != self.n_weights:
            raise ValueError(
                f"policy_weights must have shape (n_policies, {self.n_weights}) for layers {self.layer_sizes}, "
                f"got {tuple(policy_weights.shape)}"
            )
        layers, start = [], 0
        for n_in, n_out in self.shapes:
            weight = policy_weights[:, start : start + n_in * n_out].unflatten(1, (n_out, n_in))
            start += n_in * n_out
            layers.append(Layer(weight=weight, bias=policy_weights[:, start : start + n_out]))
            start += n_out
        return layers

    def join(self, layers: Sequence[Layer]) -> th.Tensor:
        """The inverse of :meth:`split`: layers -> (n_policies, n_weights)."""
        return th.cat([part.flatten(1) for layer in layers for part in layer], dim=1)


def forward_policies(
    layers: Sequence[Layer], observations: th.Tensor, activation: Callable[[th.Tensor], th.Tensor]
) -> th.Tensor:
    """Last-layer outputs (no squashing) of many MLP policies on the same observations; differentiable.

    :param layers: layers of the policies.
    :param observations: (n_observations, n_in) observations for all policies, or (n_policies, n_observations, n_in).
    :param activation: activation between the layers.
    :return: (n_policies, n_observations, n_out) outputs.
    """
    hidden = observations
    for i, (weight, bias) in enumerate(layers):
        if hidden.ndim == 2:
            # All policies see the same observations: one big product instead of n_policies small ones.
            n_policies, n_out, n_in = weight.shape
            out = hidden @ weight.reshape(n_policies * n_out, n_in).T  # (n_observations, n_policies * n_out)
            hidden = out.unflatten(1, (n_policies, n_out)).transpose(0, 1) + bias.unsqueeze(1)
        else:
            hidden = th.baddbmm(bias.unsqueeze(1), hidden, weight.transpose(1, 2))
        if i < len(layers) - 1:
            hidden = activation(hidden)
    return hidden


class BatchedActor:
    """Acts for several policies at once, policy i on observation i, in NumPy: 3x cheaper than torch for small products.

    :param layout: layout of the policies' weights.
    :param policy_weights: (n_policies, n_weights) float32 weights. They are copied, so later changes have no effect.
    :param activation: activation between the layers.
    """

    def __init__(self, layout: WeightLayout, policy_weights: th.Tensor, activation: nn.Module) -> None:
        layers = layout.split(policy_weights.detach().to("cpu", copy=True))
        self.layers = [(layer.weight.numpy(), layer.bias.unsqueeze(-1).numpy()) for layer in layers]
        self.activation = as_numpy_function(activation)

    def replace(self, index: int, policy_weights: th.Tensor, layout: WeightLayout) -> None:
        """Put another policy, (n_weights,), at ``index``."""
        new_layers = layout.split(policy_weights.detach().cpu().unsqueeze(0))
        for (weight, bias), new in zip(self.layers, new_layers, strict=True):
            weight[index] = new.weight[0].numpy()
            bias[index, :, 0] = new.bias[0].numpy()

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """(n_policies, n_in) float32 -> (n_policies, n_out) outputs of the last layer, no squashing."""
        hidden = observations[:, :, None]
        for i, (weight, bias) in enumerate(self.layers):
            if i:
                hidden = self.activation(hidden)
            hidden = np.matmul(weight, hidden) + bias
        return hidden[:, :, 0]


def as_numpy_function(activation: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """``activation`` as a function of NumPy arrays."""
    if isinstance(activation, nn.Tanh):
        return np.tanh

    def function(values: np.ndarray) -> np.ndarray:
        with th.no_grad():
            return activation(th.from_numpy(values)).numpy()

    return function
