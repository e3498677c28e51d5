"""What may go wrong in an episode: numbers that are not finite, and envs that raise. Such episodes are discarded."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sb3_gogepo.errors import DiscardedEpisodeWarning

#: Key of ``info`` under which callbacks see why an episode is discarded, in place of everything else
DISCARDED = "discarded"
#: That many discarded episodes (or lost workers), with no good one between them, end the training. A run in which half of
#: all episodes are bad meets 20 bad ones in a row once in a million episodes.
MAX_DISCARDED_IN_A_ROW = 20


class Discard(NamedTuple):
    """Why an episode must not be learned from; ``is_fault``: the env failed, otherwise a number was not finite."""

    reason: str
    is_fault: bool


def find_non_finite(values: np.ndarray) -> Iterator[tuple[int, float]]:
    """(row, the first NaN or infinity in it) of those of the (n, ...) values that have one."""
    if math.isfinite(values.sum()):  # in one go: nearly always
        return
    flat = values.reshape(len(values), -1)
    finite = np.isfinite(flat)
    for i in np.flatnonzero(~finite.all(axis=1)):
        yield int(i), flat[i][~finite[i]][0]


def only_finite(values: np.ndarray) -> np.ndarray:
    """Zeros in place of NaN and infinity."""
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def warn(message: str) -> None:
    """Say that something was discarded."""
    warnings.warn(message, DiscardedEpisodeWarning, stacklevel=3)
