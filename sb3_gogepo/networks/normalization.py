"""Running statistics that live in the policy: of observations, and of the returns that scale the commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import nn

from sb3_gogepo.networks.policy_weights import Layer

#: below it, an observation's standard deviation counts as 1 when a policy is folded: what never changed has no unit
SMALLEST_STD = 1e-5
#: below it, returns count as equal
SMALLEST_SPREAD = 1e-6


class Moments(NamedTuple):
    """mean and (biased) variance, (n_obs,) each, of n observations: what running statistics need of an episode."""

    mean: np.ndarray
    var: np.ndarray
    n: int

    @classmethod
    def of(cls, observations: np.ndarray) -> Moments:
        """Of (n, n_obs) raw observations."""
        observations = observations.astype(np.float64)
        with np.errstate(over="ignore"):  # whoever merges them looks at the result
            return cls(mean=observations.mean(axis=0), var=observations.var(axis=0), n=len(observations))


class ObservationNormalizer(nn.Module):
    """(observation - mean) / (std + 1e-8) with SB3's running statistics; mean 0 and std 1 until something was seen.

    The statistics are float64 buffers, so they are saved with the policy.
    """

    mean: th.Tensor
    var: th.Tensor
    count: th.Tensor

    def __init__(self, n_obs: int) -> None:
        super().__init__()
        self.register_buffer("mean", th.zeros(n_obs, dtype=th.float64))
        self.register_buffer("var", th.ones(n_obs, dtype=th.float64))
        self.register_buffer("count", th.zeros((), dtype=th.float64))

    def update(self, observations: np.ndarray) -> None:
        """Merge (n, n_obs) raw observations."""
        self.merge(Moments.of(observations))

    def merge(self, moments: Moments) -> None:
        """Merge the moments of further observations."""
        statistics = RunningMeanStd(epsilon=0.0, shape=tuple(self.mean.shape))
        statistics.mean, statistics.var = self.mean.cpu().numpy(), self.var.cpu().numpy()
        statistics.count = self.count.item()
        statistics.update_from_moments(moments.mean, moments.var, moments.n)
        self.mean.copy_(th.from_numpy(statistics.mean))
        self.var.copy_(th.from_numpy(statistics.var))
        self.count.fill_(statistics.count)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """(..., n_obs) raw -> float32 normalized observations."""
        return ((observations.double() - self.mean) / (self.var.sqrt() + 1e-8)).float()

    def frozen(self) -> Callable[[np.ndarray], np.ndarray]:
        """The present normalization as a NumPy function; later updates do not change it."""
        mean, std = self.mean.cpu().numpy().copy(), np.sqrt(self.var.cpu().numpy()) + 1e-8
        return lambda observations: ((observations - mean) / std).astype(np.float32)

    def fold(self, first: Layer) -> Layer:
        """First layers of policies for normalized observations -> those that do the same with raw ones."""
        mean, std = self._mean_and_std(first.weight.device)
        weight = first.weight.double() / std
        return Layer(weight=weight.float(), bias=(first.bias.double() - weight @ mean).float())

    def unfold(self, first: Layer) -> Layer:
        """The inverse of :meth:`fold`, with the statistics as they are now."""
        mean, std = self._mean_and_std(first.weight.device)
        weight = first.weight.double()
        return Layer(weight=(weight * std).float(), bias=(first.bias.double() + weight @ mean).float())

    def _mean_and_std(self, device: th.device) -> tuple[th.Tensor, th.Tensor]:
        std = self.var.sqrt()
        return self.mean.to(device), std.where(std > SMALLEST_STD, 1.0).to(device)


class ReturnScaler(nn.Module):
    """Returns and commands in return units <-> what the networks see: ``(value - offset) / scale``."""

    offset: th.Tensor
    scale: th.Tensor

    def __init__(self, offset: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("offset", th.tensor(float(offset), dtype=th.float64))
        self.register_buffer("scale", th.tensor(float(scale), dtype=th.float64))

    def forward(self, values: th.Tensor) -> th.Tensor:
        """Return units -> scaled, float32."""
        return ((values - self.offset) / self.scale).float()

    def unscale(self, values: th.Tensor) -> th.Tensor:
        """Scaled -> return units."""
        return values * self.scale + self.offset

    def set(self, offset: float, scale: float) -> None:
        """Use these from now on."""
        self.offset.fill_(offset)
        self.scale.fill_(scale)

    def fit(self, returns: np.ndarray) -> None:
        """Standardize (n_returns,) returns: their mean is the offset, their standard deviation the scale.

        Where a few returns far above all others would be scaled to huge values, the scale is larger, so that the best
        return is scaled to 3. Fewer than two returns change nothing, equal ones have the scale 1.
        """
        if len(returns) > 1:
            mean = float(returns.mean())
            spread = max(float(returns.std()), (float(returns.max()) - mean) / 3)
            self.set(offset=mean, scale=spread if spread >= SMALLEST_SPREAD else 1.0)
