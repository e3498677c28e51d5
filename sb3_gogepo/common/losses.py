"""The losses, as pure functions. All returns and commands here are scaled (see ``normalization.py``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch as th

from sb3_gogepo.common.policy_weights import Layer

Evaluate = Callable[[Sequence[Layer]], th.Tensor]


def evaluator_loss(evaluator: Evaluate, layers: Sequence[Layer], returns: th.Tensor) -> th.Tensor:
    """Mean of (V(theta) - R)^2 (Algorithm 1, line 9) over a batch.

    :param layers: layers of batch_size stored (noisy) policies.
    :param returns: (batch_size,) what each of them achieved.
    """
    return (evaluator(layers) - returns).square().mean()


def generator_loss(evaluator: Evaluate, layers: Sequence[Layer], commands: th.Tensor) -> th.Tensor:
    """Mean of (V(G(c)) - c)^2 (Algorithm 1, line 13) over a batch.

    The gradient is meant for the generator that made ``layers``. The evaluator is left alone as long as the caller
    optimizes the generator's parameters only.

    :param layers: layers of the batch_size policies generated for ``commands``, without noise.
    :param commands: (batch_size,) commanded returns.
    """
    return (evaluator(layers) - commands).square().mean()


def regression_loss(layers: Sequence[Layer], targets: Sequence[Layer]) -> th.Tensor:
    """UDRLPG's loss: mean of (G(R) - theta)^2 over a batch and over all weights.

    :param layers: layers of the batch_size policies generated for the returns of ``targets``, without noise.
    :param targets: layers of batch_size stored (noisy) policies.
    """
    pairs = [pair for layer, target in zip(layers, targets, strict=True) for pair in zip(layer, target, strict=True)]
    n_weights = sum(target.numel() for _, target in pairs)
    return th.stack([(generated - target).square().sum() for generated, target in pairs]).sum() / n_weights


def likelihood_loss(means: th.Tensor, log_stds: th.Tensor | None, actions: th.Tensor) -> th.Tensor:
    """UDRL's loss: mean negative log-likelihood of the actions in a batch.

    :param means: (batch_size, n_outputs) means of independent Gaussians, or logits if ``log_stds`` is None.
    :param log_stds: (batch_size, n_outputs), or None.
    :param actions: (batch_size, n_actions): what was done, or (batch_size, 1): which choices, from 0.
    """
    if log_stds is None:
        return th.nn.functional.cross_entropy(means, actions.squeeze(1).long())
    return -th.distributions.Normal(means, log_stds.exp()).log_prob(actions).sum(dim=1).mean()
