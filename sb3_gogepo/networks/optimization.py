"""Gradient steps that are skipped where something is not finite."""

from __future__ import annotations

import torch as th


def step_if_finite(optimizer: th.optim.Optimizer, loss: th.Tensor) -> th.Tensor:
    """Back-propagate ``loss`` and step, unless loss or gradients are NaN, infinite, or too large to be squared.

    A fused optimizer learns of it on the device, as from ``torch.amp.GradScaler``, so the CPU need not wait for a GPU.

    :param optimizer: its parameters are those that are trained.
    :param loss: a scalar.
    :return: the loss, detached; nan if no step was made.
    """
    optimizer.zero_grad()
    loss.backward()
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norms = th._foreach_norm(gradients)  # infinite where a square overflows, which Adam's second moment must not see
    is_finite = th.isfinite(th.stack([loss.detach(), *norms]).sum())
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.found_inf  # type: ignore[attr-defined]
    elif bool(is_finite):
        optimizer.step()
    return th.where(is_finite, loss.detach(), th.nan)
