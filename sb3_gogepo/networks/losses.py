"""The losses, as pure functions. All returns and commands here are scaled (see ``normalization.py``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch as th

from sb3_gogepo.networks.policy_weights import Layer

Evaluate = Callable[[Sequence[Layer]], th.Tensor]


def evaluator_loss(evaluator: Evaluate, layers: Sequence[Layer], returns: th.Tensor, counts: th.Tensor) -> th.Tensor:
    """Mean of (V(theta) - R)^2 (Algorithm 1, line 9) over a batch and all evaluators V.

    :param evaluator: policy layers -> (n_evaluators, n_policies) predicted returns.
    :param layers: layers of n_policies different stored (noisy) policies.
    :param returns: (n_policies,) scaled return that each policy achieved.
    :param counts: (n_policies,) how often each policy is in the batch.
    """
    return batch_mean((evaluator(layers) - returns).square().mean(dim=0), counts)


def generator_loss(evaluator: Evaluate, layers: Sequence[Layer], commands: th.Tensor, counts: th.Tensor) -> th.Tensor:
    """Mean of (V(G(c)) - c)^2 (Algorithm 1, line 13) over a batch and all evaluators V.

    It is (mean V - c)^2 + the variance of the V's predictions: the generator learns to keep to policies that they agree on.

    The gradient is meant for the generator that made ``layers``. The evaluator does not change as long as the caller
    optimizes the generator's parameters only.

    :param evaluator: policy layers -> (n_evaluators, n_policies) predicted returns.
    :param layers: layers of the n_policies policies generated for ``commands``, without noise.
    :param commands: (n_policies,) scaled commands.
    :param counts: (n_policies,) how often each command is in the batch.
    """
    return batch_mean((evaluator(layers) - commands).square().mean(dim=0), counts)


def regression_loss(
    policy_weights: th.Tensor, targets: th.Tensor, counts: th.Tensor, scale: th.Tensor | float = 1.0
) -> th.Tensor:
    """Mean of (G(R) - theta)^2 over a batch and over all weights: UDRLPG's loss, and GoGePo's imitation of elites.

    :param policy_weights: (n_policies, n_weights) weights generated for the returns of ``targets``, without noise.
    :param targets: (n_policies, n_weights) weights of different stored (noisy) policies.
    :param counts: (n_policies,) how often each policy is in the batch. If all are 0, so is the loss.
    :param scale: factor of the squares: one number, or (n_weights,).
    """
    return batch_mean(weight_distances(policy_weights, targets, scale), counts)


def weight_distances(policy_weights: th.Tensor, targets: th.Tensor, scale: th.Tensor | float = 1.0) -> th.Tensor:
    """(n_policies,) mean squared distance of each policy's weights; the arguments are those of :func:`regression_loss`."""
    return (scale * (policy_weights - targets).square()).mean(dim=1)


def batch_mean(values: th.Tensor, counts: th.Tensor) -> th.Tensor:
    """Mean over a batch in which value i, of (n_policies,), appears counts[i] times; 0 for an empty one."""
    return (counts * values).sum() / counts.sum().clamp(min=1)


def likelihood_loss(means: th.Tensor, log_stds: th.Tensor | None, actions: th.Tensor) -> th.Tensor:
    """UDRL's loss: mean negative log-likelihood of the actions in a batch.

    :param means: (batch_size, n_outputs) means of independent Gaussians, or logits if ``log_stds`` is None.
    :param log_stds: (batch_size, n_outputs) logs of the Gaussians' standard deviations, or None: actions are discrete.
    :param actions: (batch_size, n_actions) actions, or (batch_size, 1) choices from 0 if ``log_stds`` is None.
    """
    if log_stds is None:
        return th.nn.functional.cross_entropy(means, actions.squeeze(1).long())
    return -th.distributions.Normal(means, log_stds.exp()).log_prob(actions).sum(dim=1).mean()
