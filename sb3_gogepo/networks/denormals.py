"""Denormal numbers: closer to zero than the smallest float of full precision, 1.2e-38 in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch as th


@contextmanager
def flush_denormals() -> Iterator[None]:
    """A context in which denormal numbers count as zero on the calling thread.

    Adam's moments shrink to them wherever gradients stay zero, for instance behind dead ReLU units. Many CPUs take a hundred
    times as long for an operation on such a number, which is too small to change a weight.
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
