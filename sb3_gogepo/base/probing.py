"""Probing: which candidates act on a command from the whole range of returns, without noise, and on which."""

from __future__ import annotations

import math
from typing import NamedTuple

#: Steps of this fraction of a range, taken again and again from its beginning, leave no large gaps at any time.
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


class Probing(NamedTuple):
    """The candidates that probe. Nothing but the run's seed and a candidate's number decides.

    :param fraction: of the candidates.
    :param run_seed: shifts the commands.
    """

    fraction: float
    run_seed: int

    def is_probe(self, number: int) -> bool:
        """Does candidate ``number`` probe?"""
        return self._n_before(number + 1) > self._n_before(number)

    def place(self, number: int) -> float:
        """Where in the range the command of candidate ``number`` lies: 0 the lowest, 1 the highest."""
        return (self.run_seed * 0.37 + self._n_before(number) * GOLDEN_RATIO) % 1.0

    def _n_before(self, number: int) -> int:
        return math.floor(number * self.fraction + 1e-9)
