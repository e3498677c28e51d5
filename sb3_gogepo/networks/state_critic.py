"""StateCritic: TD3's twin critics, and an actor whose weights lie in the space of the generated policies.

Fujimoto, van Hoof, Meger, "Addressing Function Approximation Error in Actor-Critic Methods", ICML 2018.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import polyak_update
from torch import nn

from sb3_gogepo.networks.policy_weights import WeightLayout, forward_policies


class StateCritic(nn.Module):
    """SB3's twin critics Q(s, a), an actor, and their targets.

    :param observation_space: flat Box; the critics see normalized observations.
    :param layout: of the policies' weights; the last layer has one output an action, which the critics see in [-1, 1].
    :param activation: between the layers of the policies.
    :param net_arch: hidden layers of each critic.
    :param weight_bound: as the generator's: the actor's weights stay within 0.9 of what it can generate. None: no bound.
    """

    actor_target: th.Tensor
    limit: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Box,
        layout: WeightLayout,
        activation: Callable[[th.Tensor], th.Tensor],
        net_arch: Sequence[int] = (128, 128),
        weight_bound: float | None = None,
    ) -> None:
        super().__init__()
        self.layout, self.activation = layout, activation
        self.critics = ContinuousCritic(
            observation_space,
            spaces.Box(-1.0, 1.0, (layout.layer_sizes[-1],)),
            net_arch=list(net_arch),
            features_extractor=FlattenExtractor(observation_space),
            features_dim=layout.layer_sizes[0],
        )
        self.critics_target = copy.deepcopy(self.critics).requires_grad_(False)
        fan_in = layout.fan_in()
        self.actor = nn.Parameter((th.rand(layout.n_weights) * 2 - 1) / fan_in.sqrt())  # as PyTorch's linear layers begin
        self.register_buffer("actor_target", self.actor.detach().clone())
        limit = math.inf if weight_bound is None else 0.9 * weight_bound
        self.register_buffer("limit", limit / fan_in.sqrt(), persistent=False)

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
        polyak_update(self.critics.parameters(), self.critics_target.parameters(), tau)
        polyak_update([self.actor], [self.actor_target], tau)
