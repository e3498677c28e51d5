"""WeightNoise: the exploration noise on generated weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.utils import LinearSchedule

from sb3_gogepo.networks.policy_weights import WeightLayout


class WeightNoise(NamedTuple):
    """Gaussian noise that falls or grows linearly over the env steps.

    :param start: standard deviation at first.
    :param end: at last; None: it stays.
    :param n_steps: env steps until then; None: all of the training, as where it is shorter.
    :param scaling: ``"fan_in"``: divided by ``sqrt(n_in)`` of the weight's layer; ``"none"``: as it is.
    """

    start: float
    end: float | None
    n_steps: int | None
    scaling: str

    def steps_of(self, total_timesteps: int) -> int:
        """Env steps in which the noise changes, in a training of ``total_timesteps``."""
        total = max(1, total_timesteps)
        return min(total, self.n_steps or total)

    def std(self, progress_remaining: float, total_timesteps: int) -> float:
        """Standard deviation now, in units of ``scaling``.

        :param progress_remaining: 1 at the start of the training, 0 at its end, as in SB3.
        """
        if self.end is None:
            return self.start
        fraction = self.steps_of(total_timesteps) / max(1, total_timesteps)
        return LinearSchedule(self.start, self.end, fraction)(progress_remaining)

    def scale(self, layout: WeightLayout) -> th.Tensor:
        """(n_weights,) what each weight's noise is multiplied by."""
        return th.ones(layout.n_weights) if self.scaling == "none" else 1 / layout.fan_in().sqrt()

    def add(self, policy_weights: th.Tensor, std: float, layout: WeightLayout, rngs: Sequence[np.random.Generator]) -> None:
        """Add noise to (n_policies, n_weights) weights in place, each row's from its own generator."""
        scale = self.scale(layout)
        for row, rng in zip(policy_weights, rngs, strict=True):
            row += std * scale * th.from_numpy(rng.standard_normal(len(row), dtype=np.float32))
