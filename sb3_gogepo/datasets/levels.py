"""Which policies are recorded: levels, as shares of the range of commands or as returns, and the ids of their datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from minari.dataset.minari_dataset import DATASET_ID_RE, gen_dataset_id

from sb3_gogepo.checks import check_fraction, check_number

DEFAULT_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)


class Level(NamedTuple):
    """The policy of one command.

    :param name: what its dataset's id has more than that of the mixed dataset, e.g. ``25percent`` or ``return1500``.
    :param share: of the way from the lowest to the highest command; None where a return was given.
    :param command: the return that is asked for, in return units.
    """

    name: str
    share: float | None
    command: float


def choose_levels(
    command_range: tuple[float, float], levels: Sequence[float] | None, returns: Sequence[float] | None
) -> list[Level]:
    """The levels that ``levels`` or ``returns`` stand for; with neither, ``DEFAULT_LEVELS``.

    :raises ValueError: naming the argument, if both or none of a kind are given, or one is out of range or given twice.
    """
    if levels is not None and returns is not None:
        raise ValueError(f"levels and returns must not be given both, got {levels!r} and {returns!r}")
    if returns is not None:
        for value in _listed("returns", returns):
            check_number("returns", value)
        chosen = [Level(f"return{_spell(float(value))}", None, float(value)) for value in returns]
    else:
        low, high = command_range
        shares = _listed("levels", DEFAULT_LEVELS if levels is None else levels)
        for share in shares:
            check_fraction("levels", share)
        # a weighted mean, so that share 1 is the highest command itself
        chosen = [
            Level(f"{_spell(100 * float(share))}percent", float(share), float((1 - share) * low + share * high))
            for share in shares
        ]
    names = [level.name for level in chosen]
    if len(set(names)) < len(names):
        raise ValueError(
            f"{'levels' if returns is None else 'returns'} must differ, got {levels if returns is None else returns!r}"
        )
    return chosen


def _listed(name: str, values: Sequence[float]) -> list[float]:
    if not isinstance(values, (list, tuple, np.ndarray)) or not len(values):
        raise ValueError(f"{name} must be a list of one or more numbers, got {values!r}")
    return list(values)


def _spell(value: float) -> str:
    """A number in letters that an id may have: ``12_5``, ``minus120``."""
    text = np.format_float_positional(abs(value), precision=6, trim="-").replace(".", "_")
    return f"minus{text}" if value < 0 else text


def ids_of(dataset_id: str, levels: Sequence[Level]) -> list[str]:
    """Ids of the levels' datasets: ``hopper/gogepo-v0`` -> ``hopper/gogepo-25percent-v0``; a single level has the id itself.

    :raises ValueError: unless ``dataset_id`` is one of Minari's, with a version.
    """
    match = DATASET_ID_RE.fullmatch(dataset_id) if isinstance(dataset_id, str) else None
    if match is None or match["version"] is None:
        raise ValueError(
            f"dataset_id must be (namespace/)name-v(version) of letters, digits, - and _, such as 'hopper/gogepo-v0', got "
            f"{dataset_id!r}"
        )
    if len(levels) == 1:
        return [dataset_id]
    namespace, name, version = match["namespace"], match["dataset"], int(match["version"])
    return [gen_dataset_id(namespace, f"{name}-{level.name}", version) for level in levels]
