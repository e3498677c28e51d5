"""What all buffers check of the rows that a file holds, before they change."""

from __future__ import annotations

import torch as th


def check_rows(name: str, saved: th.Tensor, shape: tuple[int, ...], dtype: th.dtype = th.float32) -> th.Tensor:
    """``saved`` as ``dtype``, if it has the shape and is finite then.

    :param name: what to call it in errors.
    :param shape: (n_rows, ...) that it must have.
    :raises ValueError: if it has another shape, or holds NaN, infinity or a number too large for ``dtype``.
    """
    if tuple(saved.shape) != shape:
        raise ValueError(f"the saved {name} must have the shape {shape}, got {tuple(saved.shape)}")
    rows = saved.to(dtype)
    if not bool(th.isfinite(rows).all()):
        raise ValueError(f"the saved {name} must be finite")
    return rows
