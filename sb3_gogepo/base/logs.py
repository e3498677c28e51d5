"""What a training round leaves in the log."""

from __future__ import annotations

import math
from typing import Any

import torch as th

from sb3_gogepo.errors import NonFiniteError
from sb3_gogepo.rollouts.faults import warn


def record_losses(model: Any, **losses: list[th.Tensor]) -> None:
    """Log the mean loss of each kind; those that are nan stand for gradient steps that were not made.

    :param model: its ``_skipped_steps`` counts them, and its ``on_non_finite`` says what to do about them.
    :raises NonFiniteError: for such a step, with ``on_non_finite="raise"``.
    """
    for name, values in losses.items():
        if not values:
            continue
        stacked = th.stack(values).cpu()
        made = stacked[th.isfinite(stacked)]
        n_skipped = len(stacked) - len(made)
        model.logger.record(f"train/{name}", made.mean().item() if len(made) else math.nan)
        if not n_skipped:
            continue
        model._skipped_steps += n_skipped
        message = f"{name} or its gradient was not finite in {n_skipped} of {len(stacked)} gradient steps"
        if model.on_non_finite == "raise":
            raise NonFiniteError(f"{message}; they were not made")
        warn(f"{message}, which were skipped")
    model.logger.record("train/skipped_steps", model._skipped_steps)
