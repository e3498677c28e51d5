"""StateCritic: TD3's twin critics, and an actor whose weights lie in the space of the generated policies.

Fujimoto, van Hoof, Meger, "Addressing Function Approximation Error in Actor-Critic Methods", ICML 2018. With discrete
actions, the critics are twin Q-networks, and the actor climbs the mean of their values under its softmax:
Christodoulou, "Soft Actor-Critic for Discrete Action Settings", 2019, equation 10, without the entropy.
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
from stable_baselines3.dqn.policies import QNetwork
from torch import nn
from torch.nn.functional import one_hot

from sb3_gogepo.networks.policy_weights import WeightLayout, forward_policies


class DiscreteCritics(nn.ModuleList):
    """SB3's QNetwork twice, called as its ContinuousCritic is: actions are (n, n_actions) probabilities.

    :param observation_space: flat Box.
    :param action_space: of the env.
    :param net_arch: hidden layers of each.
    """

    def __init__(self, observation_space: spaces.Box, action_space: spaces.Discrete, net_arch: Sequence[int]) -> None:
        n_obs = observation_space.shape[0]
        extractor = FlattenExtractor(observation_space)
        super().__init__(QNetwork(observation_space, action_space, extractor, n_obs, list(net_arch)) for _ in range(2))

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """(n, 1) mean values of the actions, by each network."""
        return tuple(mean_value(network, observations, actions) for network in self)

    def q1_forward(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """(n, 1), by the first network alone."""
        return mean_value(self[0], observations, actions)


def mean_value(network: nn.Module, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """(n, 1) values of a Q-network, averaged over the (n, n_actions) probabilities of the actions."""
    return (network(observations) * actions).sum(dim=1, keepdim=True)


def normalize_layers(critics: nn.Module) -> None:
    """Put layer normalization before each activation of the critics.

    (As in Hiraoka et al., "Dropout Q-Functions for Doubly Efficient Reinforcement Learning", ICLR 2022, without dropout.)
    """
    for network in list(critics.modules()):
        if isinstance(network, nn.Sequential):
            *hidden, _ = [place for place, module in enumerate(network) if isinstance(module, nn.Linear)]
            for place in reversed(hidden):  # from the end: places before an insertion stay as they are
                network.insert(place + 1, nn.LayerNorm(network[place].out_features))


class StateCritic(nn.Module):
    """SB3's twin critics Q(s, a), an actor, and their targets.

    :param observation_space: flat Box; the critics see normalized observations.
    :param action_space: of the env.
    :param layout: of the policies' weights; the last layer has one output an action, which the critics see in [-1, 1]; of
        discrete actions, their logits, which the critics see as probabilities.
    :param activation: between the layers of the policies.
    :param net_arch: hidden layers of each critic.
    :param weight_bound: as the generator's: the actor's weights stay within 0.9 of what it can generate. None: no bound.
    :param layer_norm: normalize the critics' layers before each activation.
    """

    actor_target: th.Tensor
    limit: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Box | spaces.Discrete,
        layout: WeightLayout,
        activation: Callable[[th.Tensor], th.Tensor],
        net_arch: Sequence[int] = (128, 128),
        weight_bound: float | None = None,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.layout, self.activation = layout, activation
        self.n_choices = int(action_space.n) if isinstance(action_space, spaces.Discrete) else None
        self.critics: ContinuousCritic | DiscreteCritics
        if isinstance(action_space, spaces.Discrete):
            self.critics = DiscreteCritics(observation_space, action_space, net_arch)
        else:
            self.critics = ContinuousCritic(
                observation_space,
                spaces.Box(-1.0, 1.0, (layout.layer_sizes[-1],)),
                net_arch=list(net_arch),
                features_extractor=FlattenExtractor(observation_space),
                features_dim=layout.layer_sizes[0],
            )
        if layer_norm:
            normalize_layers(self.critics)
        self.critics_target = copy.deepcopy(self.critics).requires_grad_(False)
        fan_in = layout.fan_in()
        self.actor = nn.Parameter((th.rand(layout.n_weights) * 2 - 1) / fan_in.sqrt())  # as PyTorch's linear layers begin
        self.register_buffer("actor_target", self.actor.detach().clone())
        limit = math.inf if weight_bound is None else 0.9 * weight_bound
        self.register_buffer("limit", limit / fan_in.sqrt(), persistent=False)

    def act(self, weights: th.Tensor, observations: th.Tensor) -> th.Tensor:
        """What the critics see of a policy's actions: (n, n_actions) in [-1, 1], or probabilities.

        :param weights: (n_weights,) of one policy.
        :param observations: (n, n_obs) normalized.
        """
        outputs = forward_policies(self.layout.split(weights[None]), observations, self.activation)[0]
        return th.tanh(outputs) if self.n_choices is None else outputs.softmax(dim=1)

    def act_smoothed(self, observations: th.Tensor, noise: th.Tensor) -> th.Tensor:
        """What the critics see of the target actor's actions: plus (n, n_actions) noise, or the choice it makes, without."""
        actions = self.act(self.actor_target, observations)
        return (actions + noise).clamp(-1, 1) if self.n_choices is None else self.as_seen(actions.argmax(dim=1, keepdim=True))

    def as_seen(self, actions: th.Tensor) -> th.Tensor:
        """What the critics see of stored actions: (n, n_actions) as they are, or (n, 1) choices as certain."""
        return actions if self.n_choices is None else one_hot(actions[:, 0].long(), self.n_choices).float()

    @th.no_grad()
    def bound(self, weights: th.Tensor) -> None:
        """Bring (n_weights,) weights, in place, to where the generator can make them."""
        weights.clamp_(-self.limit, self.limit)

    @th.no_grad()
    def update_targets(self, tau: float) -> None:
        """Move the targets by the fraction ``tau``."""
        polyak_update(self.critics.parameters(), self.critics_target.parameters(), tau)
        polyak_update([self.actor], [self.actor_target], tau)
