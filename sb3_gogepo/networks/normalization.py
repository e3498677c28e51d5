"""Running statistics that live in the policy: of observations, and of the returns that scale the commands."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import nn

from sb3_gogepo.networks.policy_weights import Layer

#: An observation that varies by no more than this, or by no more than this share of its mean, counts as constant.
SMALLEST_STD, SMALLEST_RELATIVE_STD = 1e-8, 1e-6
#: The mean of a constant observation, divided by its unit, is at most this, so that folding it into float32 loses nothing.
LARGEST_CONSTANT = 1e3
#: Returns that vary by no more than this share of the largest count as equal.
SMALLEST_SPREAD = 1e-6
#: Smaller returns count as 0: float32 could not hold other commands in their unit.
SMALLEST_RETURN = 1e-30


class Moments(NamedTuple):
    """What running statistics need of an episode.

    :param mean: (n_obs,) mean of the observations.
    :param var: (n_obs,) biased variance of the observations.
    :param n: number of observations.
    """

    mean: np.ndarray
    var: np.ndarray
    n: int

    @classmethod
    def of(cls, observations: np.ndarray) -> Moments:
        """The moments of (n, n_obs) raw observations."""
        observations = observations.astype(np.float64)
        with np.errstate(over="ignore"):  # whoever merges them looks at the result
            return cls(mean=observations.mean(axis=0), var=observations.var(axis=0), n=len(observations))


def dtype_of(space: spaces.Space) -> np.dtype:
    """The type that observations of a Box are cast to: the space's own if it is one of floats; else float64."""
    dtype = np.dtype(space.dtype)
    return dtype if dtype in (np.float16, np.float32) else np.dtype(np.float64)


class ObservationNormalizer(nn.Module):
    """(observation - mean) / std with SB3's running statistics; mean 0 and std 1 until the first update.

    An observation that does not vary is divided by 1 instead of its std (by more if it is above 1000), here and in
    :meth:`fold`. The statistics are float64 buffers, so they are saved with the policy.

    :param n_obs: size of an observation.
    :param dtype: type to which observations are rounded first, so that equal numbers are the same observation whatever
        type they come in.
    """

    mean: th.Tensor
    var: th.Tensor
    count: th.Tensor

    def __init__(self, n_obs: int, dtype: np.dtype | type = np.float64) -> None:
        super().__init__()
        self.dtype = np.dtype(dtype)
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
        rounded = observations.to(getattr(th, self.dtype.name)).double()
        return ((rounded - self.mean) / self._divisor()).float()

    def frozen(self) -> Callable[[np.ndarray], np.ndarray]:
        """The present normalization as a NumPy function; later updates have no effect on it."""
        return partial(_normalize, self.mean.cpu().numpy().copy(), self._divisor().cpu().numpy(), self.dtype)

    def _std(self) -> th.Tensor:
        """(n_obs,) what an observation is divided by."""
        std, size = self.var.sqrt(), self.mean.abs()
        is_constant = std <= (SMALLEST_RELATIVE_STD * size).clamp(min=SMALLEST_STD)
        return th.where(is_constant, (size / LARGEST_CONSTANT).clamp(min=1.0), std)

    def _divisor(self) -> th.Tensor:
        """:meth:`_std`, plus 1e-8 where that hardly counts: what observations are divided by."""
        std = self._std()
        return std + 1e-8 * (std > 1e-5)

    def fold(self, first: Layer) -> Layer:
        """First layers of policies for normalized observations -> equivalent ones for raw observations."""
        mean, std = self._mean_and_std(first.weight.device)
        weight = first.weight.double() / std
        return Layer(weight=weight.float(), bias=(first.bias.double() - weight @ mean).float())

    def unfold(self, first: Layer) -> Layer:
        """The inverse of :meth:`fold`, with the present statistics."""
        mean, std = self._mean_and_std(first.weight.device)
        weight = first.weight.double()
        return Layer(weight=(weight * std).float(), bias=(first.bias.double() + weight @ mean).float())

    def _mean_and_std(self, device: th.device) -> tuple[th.Tensor, th.Tensor]:
        return self.mean.to(device), self._std().to(device)


def _normalize(offset: np.ndarray | float, divisor: np.ndarray | float, dtype: np.dtype, values: np.ndarray) -> np.ndarray:
    return ((values.astype(dtype) - offset) / divisor).astype(np.float32)


class ReturnScaler(nn.Module):
    """Returns and commands in return units <-> what the networks see: ``(value - offset) / scale``.

    :param offset: what is subtracted, in return units.
    :param scale: what the difference is divided by, in return units.
    """

    offset: th.Tensor
    scale: th.Tensor

    def __init__(self, offset: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("offset", th.tensor(float(offset), dtype=th.float64))
        self.register_buffer("scale", th.tensor(float(scale), dtype=th.float64))

    def forward(self, values: th.Tensor) -> th.Tensor:
        """Return units -> scaled, float32."""
        return ((values - self.offset) / self.scale).float()

    def frozen(self) -> Callable[[np.ndarray], np.ndarray]:
        """The present scaling as a NumPy function; later changes have no effect on it."""
        return partial(_normalize, self.offset.item(), self.scale.item(), np.dtype(np.float64))

    def unscale(self, values: th.Tensor) -> th.Tensor:
        """Scaled -> return units."""
        return values * self.scale + self.offset

    def set(self, offset: float, scale: float) -> None:
        """Use this offset and scale from now on."""
        self.offset.fill_(offset)
        self.scale.fill_(scale)

    def fit(self, returns: np.ndarray) -> None:
        """Standardize (n_returns,) returns: their mean is the offset, their standard deviation the scale.

        Where a few returns far above all others would be scaled to huge values, the scale is larger, so that the best
        return is scaled to 3. Equal returns are divided by their absolute value, or by 1 if they are 0. Without returns
        nothing changes.
        """
        if not len(returns):
            return
        largest = float(np.abs(returns).max())
        unit = math.ldexp(1.0, math.frexp(largest)[1] - 1)  # of two: exact; squares neither overflow nor vanish in float32
        scaled = returns / unit
        mean = float(scaled.mean())
        spread = max(float(scaled.std()), (float(scaled.max()) - mean) / 3)
        if spread * unit <= max(SMALLEST_SPREAD * largest, SMALLEST_RETURN):  # equal
            self.set(offset=mean * unit, scale=unit_of(largest))
        else:
            self.set(offset=mean * unit, scale=spread * unit)


def unit_of(largest: float) -> float:
    """The largest absolute return seen, to scale by; 1 if there is none but 0."""
    return largest if largest > SMALLEST_RETURN else 1.0
