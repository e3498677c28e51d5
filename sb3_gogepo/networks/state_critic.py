"""StateCritic: TD3's twin critics, and an actor whose weights lie in the space of the generated policies.

Fujimoto, van Hoof, Meger, "Addressing Function Approximation Error in Actor-Critic Methods", ICML 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch as th
from torch import nn

from sb3_gogepo.networks.policy_weights import WeightLayout, forward_policies


class StateCritic(nn.Module):
    """Twin critics Q(s, a), an actor, and their targets. Each is one flat tensor: an optimizer step is one operation.

    SB3's ``ContinuousCritic`` runs its critics one after the other and has a dozen parameters, which takes 1.6 times as long
    at these sizes (``benchmarks.speed.critic_speed``).

    :param layout: of the policies' weights; the last layer has one output an action.
    :param activation: between the layers of the policies.
    :param net_arch: hidden layers of each critic.
    :param layer_norm: normalize the layers of the critics before each activation, without parameters, which bounds Q-values of
        unseen actions (Ball et al., "Efficient Online Reinforcement Learning with Offline Data", ICML 2023).
    :param weight_bound: as the generator's: the actor's weights stay within 0.9 of what it can generate. None: no bound.
    """

    critics_target: th.Tensor
    actor_target: th.Tensor
    limit: th.Tensor

    def __init__(
        self,
        layout: WeightLayout,
        activation: Callable[[th.Tensor], th.Tensor],
        net_arch: Sequence[int] = (128, 128),
        layer_norm: bool = False,
        weight_bound: float | None = None,
    ) -> None:
        super().__init__()
        self.layout, self.activation, self.layer_norm = layout, activation, layer_norm
        self.shapes = list(pairwise([layout.layer_sizes[0] + layout.layer_sizes[-1], *net_arch, 1]))
        self.sizes = [size for n_in, n_out in self.shapes for size in (2 * n_in * n_out, 2 * n_out)]
        of_layers = [_uniform(2 * n, n_in) for n_in, n_out in self.shapes for n in (n_in * n_out, n_out)]
        self.critics = nn.Parameter(th.cat(of_layers))
        fan_in = layout.fan_in()
        self.actor = nn.Parameter(_uniform(layout.n_weights, fan_in))
        self.register_buffer("critics_target", self.critics.detach().clone())
        self.register_buffer("actor_target", self.actor.detach().clone())
        limit = math.inf if weight_bound is None else 0.9 * weight_bound
        self.register_buffer("limit", limit / fan_in.sqrt(), persistent=False)

    def q_values(self, critics: th.Tensor, observations: th.Tensor, actions: th.Tensor, n_critics: int = 2) -> th.Tensor:
        """(n, n_obs) normalized observations and (n, n_actions) actions in [-1, 1] -> (n_critics, n) values.

        :param critics: flat parameters: ``self.critics`` or ``self.critics_target``.
        :param n_critics: 1: of the first critic only, which the actor climbs.
        """
        hidden = th.cat([observations, actions], dim=1).expand(n_critics, -1, -1)
        parts = critics.split(self.sizes)
        for i, (n_in, n_out) in enumerate(self.shapes):
            if i:
                hidden = th.relu(nn.functional.layer_norm(hidden, (n_in,)) if self.layer_norm else hidden)
            weight, bias = parts[2 * i].view(2, n_in, n_out), parts[2 * i + 1].view(2, 1, n_out)
            hidden = th.baddbmm(bias[:n_critics], hidden, weight[:n_critics])
        return hidden.squeeze(-1)

    def act(self, weights: th.Tensor, observations: th.Tensor) -> th.Tensor:
        """(n_weights,) of one policy, (n, n_obs) normalized observations -> (n, n_actions) actions in [-1, 1]."""
        return th.tanh(forward_policies(self.layout.split(weights[None]), observations, self.activation)[0])

    @th.no_grad()
    def bound(self, weights: th.Tensor) -> None:
        """Bring (n_weights,) weights, in place, to where the generator can make them."""
        weights.clamp_(-self.limit, self.limit)

    @th.no_grad()
    def update_targets(self, tau: float) -> None:
        """Move the targets by the fraction ``tau``."""
        self.critics_target.lerp_(self.critics, tau)
        self.actor_target.lerp_(self.actor, tau)


def _uniform(n: int, fan_in: int | th.Tensor) -> th.Tensor:
    """(n,) numbers as PyTorch initializes a linear layer with ``fan_in`` inputs."""
    return (th.rand(n) * 2 - 1) / (fan_in**0.5)
