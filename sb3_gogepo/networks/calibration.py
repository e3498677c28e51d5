"""Calibration: a monotone map from the return that is asked for to the command that earns it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th
from torch import nn


def isotonic(values: np.ndarray) -> np.ndarray:
    """The non-decreasing sequence nearest to (n,) values by least squares (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []  # (mean, how many)
    for value in values:
        mean, n = float(value), 1
        while blocks and blocks[-1][0] > mean:
            before, n_before = blocks.pop()
            mean, n = (before * n_before + mean * n) / (n_before + n), n_before + n
        blocks.append((mean, n))
    return np.concatenate([np.full(n, mean) for mean, n in blocks]) if blocks else np.empty(0)


class Calibration(nn.Module):
    """Piecewise linear between ``N_KNOTS`` knots, the identity outside of them; off until :meth:`fit`.

    Its buffers are saved with the policy. Files from before there was a calibration load as one that is off.
    """

    N_KNOTS = 41

    asked: th.Tensor
    commands: th.Tensor
    is_on: th.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("asked", th.zeros(self.N_KNOTS, dtype=th.float64))
        self.register_buffer("commands", th.zeros(self.N_KNOTS, dtype=th.float64))
        self.register_buffer("is_on", th.zeros((), dtype=th.bool))

    def fit(self, commands: np.ndarray, achieved: np.ndarray) -> None:
        """Ask for what was achieved.

        :param commands: (n,) increasing, in return units.
        :param achieved: (n,) mean returns that acting on them earned.
        :raises ValueError: for fewer than 2 commands, or commands that do not increase, or numbers that are not finite.
        """
        commands, achieved = np.asarray(commands, dtype=np.float64), np.asarray(achieved, dtype=np.float64)
        if len(commands) < 2 or commands.shape != achieved.shape:
            raise ValueError(f"commands must be 2 or more, and achieved as many, got {commands.shape} and {achieved.shape}")
        if not (np.isfinite(commands).all() and np.isfinite(achieved).all() and (np.diff(commands) > 0).all()):
            raise ValueError("commands must increase, and all numbers be finite, got " + str((commands, achieved)))
        span = commands[-1] - commands[0]
        rising = isotonic(achieved) + np.linspace(0, 1e-6 * span, len(commands))  # strictly, so that it can be inverted
        asked = np.linspace(commands[0], commands[-1], self.N_KNOTS)
        self.asked.copy_(th.from_numpy(asked))
        self.commands.copy_(th.from_numpy(np.interp(asked, rising, commands)))
        self.is_on.fill_(True)

    def reset(self) -> None:
        """Off: what is asked for is commanded."""
        self.is_on.fill_(False)

    def forward(self, asked: th.Tensor) -> th.Tensor:
        """(n,) returns asked for -> (n,) commands."""
        inside = (asked >= self.asked[0]) & (asked <= self.asked[-1]) & self.is_on
        widths = self.asked.diff().clamp(min=th.finfo(self.asked.dtype).tiny)
        shares = ((asked[:, None] - self.asked[:-1]) / widths).clamp(0, 1)  # (n, N_KNOTS - 1) of each piece
        between = self.commands[0] + (shares * self.commands.diff()).sum(dim=1)
        return th.where(inside, between.to(asked.dtype), asked)

    def check(self) -> None:
        """:raises ValueError: if a file made it a map that is none: not monotone, or of knots that do not increase."""
        if bool(self.is_on) and not (bool((self.asked.diff() > 0).all()) and bool((self.commands.diff() >= 0).all())):
            raise ValueError("the saved calibration must be monotone")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, own in self.named_buffers():
            state_dict.setdefault(prefix + name, th.zeros(own.shape, dtype=own.dtype))
        super()._load_from_state_dict(state_dict, prefix, *args)
