"""The check of saved rows that all buffers share."""

from __future__ import annotations

import torch as th


def check_rows(name: str, saved: th.Tensor, shape: tuple[int, ...], dtype: th.dtype = th.float32) -> th.Tensor:
    """Saved rows, ready to be put into a buffer.

    :param name: what to call them in errors.
    :param saved: the rows as they were read from a file.
    :param shape: (n_rows, ...) shape that they must have.
    :param dtype: type to which they are converted.
    :return: the converted rows.
    :raises ValueError: if it has another shape, or holds NaN, infinity or a number too large for ``dtype``.
    """
    if tuple(saved.shape) != shape:
        raise ValueError(f"the saved {name} must have the shape {shape}, got {tuple(saved.shape)}")
    rows = saved.to(dtype)
    if not bool(th.isfinite(rows).all()):
        raise ValueError(f"the saved {name} must be finite")
    return rows
