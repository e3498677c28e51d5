"""Denormal numbers: closer to zero than the smallest float of full precision, 1.2e-38 in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch as th


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Denormal numbers count as zero in here, on the calling thread; afterwards as before.

    Adam's moments shrink to them wherever gradients stay zero, behind dead ReLU units for instance, and many a CPU takes a
    hundred times as long for each operation on one. Such a moment is too small to change a weight.
    """
    were_flushed = are_denormals_flushed()
    th.set_flush_denormal(True)
    try:
        yield
    finally:
        th.set_flush_denormal(were_flushed)


def are_denormals_flushed() -> bool:
    """Do denormal numbers count as zero on the calling thread?"""
    smallest = th.tensor(th.finfo(th.float32).tiny)
    return not bool(smallest / 2 > 0)
