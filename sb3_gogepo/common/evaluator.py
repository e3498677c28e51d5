"""The evaluator: a differentiable prediction of a policy's return from how it acts in learned probing states.

Policy fingerprinting: Harb et al. 2020, "Policy Evaluation Networks"; Faccio et al. 2022, arXiv 2207.01566.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch as th
from stable_baselines3.common.torch_layers import create_mlp
from torch import nn

from sb3_gogepo.common.policy_weights import Layer, WeightLayout, forward_policies


class Evaluator(nn.Module):
    """Policy layers -> probing actions -> predicted (scaled) return.

    :param probing_states: (n_probing_states, n_obs), initial values, in the space of normalized observations; trained.
    :param n_actions: size of the policy's output.
    :param activation: activation between the policy's layers.
    :param squash: maps the policy's last-layer outputs to probing actions (e.g. tanh; identity for logits).
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
        self.predictor = nn.Sequential(*create_mlp(len(probing_states) * n_actions, 1, list(net_arch)))

    def fingerprint(self, layers: Sequence[Layer]) -> th.Tensor:
        """Probing actions of each policy, state-major: (n_policies, n_probing_states * n_actions)."""
        return self.squash(forward_policies(layers, self.probing_states, self.activation)).flatten(1)

    def forward(self, layers: Sequence[Layer]) -> th.Tensor:
        """Layers of n_policies policies -> (n_policies,) predicted scaled returns."""
        return self.predictor(self.fingerprint(layers)).squeeze(1)


class WeightsEvaluator(nn.Module):
    """The same from the raw policy weights, for comparison: the paper's first kind of evaluator.

    :param layout: of the policies' weights.
    :param net_arch: hidden layers of the return predictor.
    """

    def __init__(self, layout: WeightLayout, net_arch: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        self.layout = layout
        self.predictor = nn.Sequential(*create_mlp(layout.n_weights, 1, list(net_arch)))

    def forward(self, layers: Sequence[Layer]) -> th.Tensor:
        """Layers of n_policies policies -> (n_policies,) predicted scaled returns."""
        return self.predictor(self.layout.join(layers)).squeeze(1)
