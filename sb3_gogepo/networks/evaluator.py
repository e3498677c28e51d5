"""The evaluator: a differentiable prediction of a policy's return from how it acts in learned probing states.

Policy fingerprinting: Harb et al. 2020, "Policy Evaluation Networks"; Faccio et al. 2022, arXiv 2207.01566.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch as th
from torch import nn

from sb3_gogepo.networks.policy_weights import Layer, WeightLayout, forward_policies


class Evaluator(nn.Module):
    """Policy layers -> probing actions -> predicted (scaled) returns, by several independent evaluators at once.

    :param probing_states: (n_evaluators, n_probing_states, n_obs) initial probing states, in the space of normalized
        observations. They are trained.
    :param n_actions: size of the evaluated policies' output.
    :param activation: activation between the layers of the evaluated policies.
    :param squash: maps last-layer outputs of the evaluated policies to probing actions (e.g. tanh; identity for logits).
    :param net_arch: hidden layers of the return predictor (the original code: 256, 256, ReLU).
    """

    def __init__(
        self,
        probing_states: th.Tensor,
        n_actions: int,
        activation: Callable[[th.Tensor], th.Tensor],
        squash: Callable[[th.Tensor], th.Tensor],
        net_arch: Sequence[int] = (256, 256),
    ) -> None:
        super().__init__()
        self.probing_states = nn.Parameter(probing_states)
        self.activation = activation
        self.squash = squash
        n_evaluators, n_probing_states, _ = probing_states.shape
        self.predictor = make_predictor(n_evaluators, n_probing_states * n_actions, net_arch)

    def fingerprint(self, layers: Sequence[Layer]) -> th.Tensor:
        """Probing actions of each policy, state-major: (n_policies, n_evaluators * n_probing_states * n_actions)."""
        return self.squash(forward_policies(layers, self.probing_states.flatten(0, 1), self.activation)).flatten(1)

    def predict(self, fingerprints: th.Tensor) -> th.Tensor:
        """:meth:`fingerprint` -> (n_evaluators, n_policies) scaled returns, each predicted from the evaluator's own states."""
        return self.predictor(fingerprints.unflatten(1, (len(self.probing_states), -1)).transpose(0, 1)).squeeze(2)

    def forward(self, layers: Sequence[Layer]) -> th.Tensor:
        """Layers of n_policies policies -> (n_evaluators, n_policies) predicted scaled returns."""
        return self.predict(self.fingerprint(layers))


class WeightsEvaluator(nn.Module):
    """Policy layers -> predicted (scaled) returns, from the raw policy weights: the paper's first kind of evaluator.

    It is there for comparison with :class:`Evaluator`.

    :param n_evaluators: number of independent evaluators.
    :param layout: layout of the evaluated policies' weights.
    :param net_arch: hidden layers of the return predictor.
    """

    def __init__(self, n_evaluators: int, layout: WeightLayout, net_arch: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        self.n_evaluators, self.layout = n_evaluators, layout
        self.predictor = make_predictor(n_evaluators, layout.n_weights, net_arch)

    def forward(self, layers: Sequence[Layer]) -> th.Tensor:
        """Layers of n_policies policies -> (n_evaluators, n_policies) predicted scaled returns."""
        return self.predictor(self.layout.join(layers).expand(self.n_evaluators, -1, -1)).squeeze(2)


class ParallelLinear(nn.Module):
    """Independent linear layers side by side, with torch's initialization: (n_layers, n, n_in) -> (n_layers, n, n_out)."""

    def __init__(self, n_layers: int, n_in: int, n_out: int) -> None:
        super().__init__()
        linears = [nn.Linear(n_in, n_out) for _ in range(n_layers)]
        # (n_layers, n_in, n_out): the gradient of a transposed weight would be copied at each step
        self.weight = nn.Parameter(th.stack([linear.weight.detach().T for linear in linears]))
        self.bias = nn.Parameter(th.stack([linear.bias.detach() for linear in linears]))

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """Apply layer i to the i-th inputs."""
        return th.baddbmm(self.bias.unsqueeze(1), inputs, self.weight)


def make_predictor(n_evaluators: int, n_in: int, net_arch: Sequence[int]) -> nn.Sequential:
    """Independent ReLU networks side by side: (n_evaluators, n_policies, n_in) -> (n_evaluators, n_policies, 1)."""
    modules: list[nn.Module] = []
    for sizes in pairwise([n_in, *net_arch, 1]):
        modules += [ParallelLinear(n_evaluators, *sizes), nn.ReLU()]
    return nn.Sequential(*modules[:-1])
