"""GPIMPolicy: skill policy, goal-conditioned policy and discriminator; ``predict`` is the goal-conditioned policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac.policies import MultiInputPolicy as SACMultiInputPolicy
from torch import nn

from sb3_gogepo.checks import check_number, check_sizes
from sb3_gogepo.gpim.latent_buffer import LatentSamples
from sb3_gogepo.networks.policies import PicklefreePolicy


class Discriminator(nn.Module):
    """q_phi(latent | s'): a softmax over the latents.

    :param n_obs: size of an observation.
    :param n_latents: number of latents.
    :param net_arch: hidden layers.
    :param activation_fn: class of the activation between the layers.
    :param indices: indices of the observation's entries that the discriminator sees; None: all.
    """

    indices: th.Tensor

    def __init__(
        self,
        n_obs: int,
        n_latents: int,
        net_arch: Sequence[int],
        activation_fn: type[nn.Module] = nn.ReLU,
        indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.n_latents = n_latents
        self.register_buffer("indices", th.as_tensor(range(n_obs) if indices is None else list(indices)), persistent=False)
        self.mlp = nn.Sequential(*create_mlp(len(self.indices), n_latents, list(net_arch), activation_fn))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """(n, n_obs) -> (n, n_latents) logits."""
        return self.mlp(observations.float().flatten(start_dim=1)[:, self.indices])

    def log_prob(self, observations: th.Tensor, latents: th.Tensor) -> th.Tensor:
        """log q(latent | s') of (n,) latents: (n,)."""
        log_probs = th.log_softmax(self(observations), dim=1)
        return log_probs.gather(1, latents.long().reshape(-1, 1)).squeeze(1)

    def reward(self, observations: th.Tensor, latents: th.Tensor) -> th.Tensor:
        """log q(latent | s') - log p(latent), p being uniform: (n,), at most log(n_latents)."""
        return self.log_prob(observations, latents) + math.log(self.n_latents)

    def expected_reward(self, observations: th.Tensor, sources: th.Tensor) -> th.Tensor:
        """:meth:`reward`, averaged over the distribution q(latent | source) of (n, n_obs) source states: (n,).

        It is highest for a state s' with q(latent | s') = q(latent | source).
        """
        probabilities = th.softmax(self(sources), dim=1)
        return (probabilities * th.log_softmax(self(observations), dim=1)).sum(dim=1) + math.log(self.n_latents)

    def reward_by_latent(self, samples: LatentSamples) -> th.Tensor:
        """:meth:`reward` of sampled steps: (batch_size,)."""
        return self.reward(samples.next_observations, samples.latents)

    def reward_by_source(self, samples: LatentSamples) -> th.Tensor:
        """:meth:`expected_reward` of sampled steps: (batch_size,)."""
        return self.expected_reward(samples.next_observations, samples.sources)


class SACPolicyOnAnyDevice(SACMultiInputPolicy):
    """SB3's SAC policy, which can also be made on torch's meta device, to check a file's sizes without claiming memory."""

    @property
    def device(self) -> th.device:
        """Where the parameters are; before there are any, the default device."""
        first = next(self.parameters(), None)
        return th.empty(0).device if first is None else first.device


class GPIMPolicy(PicklefreePolicy):
    """Two of SB3's SAC policies and a discriminator.

    The skill policy sees ``observation`` and a latent, the goal-conditioned one ``observation`` and ``desired_goal``,
    and nothing else. ``predict`` takes the env's whole observation and acts as the goal-conditioned one.

    :param observation_space: Dict of ``observation``, ``achieved_goal`` and ``desired_goal``.
    :param action_space: Box with finite bounds.
    :param lr_schedule: its first value is the optimizers' learning rate until the algorithm sets another; None: 0.
    :param n_latents: number of skills.
    :param net_arch: hidden layers of actors and critics.
    :param activation_fn: class of the activation between the layers of all networks.
    :param discriminator_net_arch: hidden layers of the discriminator.
    :param discriminator_indices: indices of the entries of ``observation`` that the discriminator sees; None: all.
    :param optimizer_class: class of all optimizers.
    :param optimizer_kwargs: arguments of all optimizers, without ``lr``; None: none.
    """

    observation_space: spaces.Dict
    action_space: spaces.Box

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        lr_schedule: Schedule | None = None,
        n_latents: int = 50,
        net_arch: Sequence[int] = (256, 256),
        activation_fn: type[nn.Module] = nn.ReLU,
        discriminator_net_arch: Sequence[int] = (256, 256),
        discriminator_indices: Sequence[int] | None = None,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_number("n_latents", n_latents, minimum=2, integer=True)
        check_sizes("net_arch", net_arch)
        check_sizes("discriminator_net_arch", discriminator_net_arch)
        n_obs = int(np.prod(observation_space["observation"].shape or ()))
        if discriminator_indices is not None and not (
            len(discriminator_indices) > 0
            and all(isinstance(i, (int, np.integer)) and 0 <= i < n_obs for i in discriminator_indices)
        ):
            raise ValueError(
                f"discriminator_indices must be None or a list of integers in [0, {n_obs}), got {discriminator_indices!r}"
            )
        super().__init__(
            observation_space,
            action_space,
            squash_output=True,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )
        self.n_latents, self.net_arch, self.activation_fn = n_latents, list(net_arch), activation_fn
        self.discriminator_net_arch, self.discriminator_indices = list(discriminator_net_arch), discriminator_indices
        state_space = observation_space["observation"]
        kwargs: dict[str, Any] = dict(
            action_space=action_space,
            lr_schedule=lr_schedule or self._dummy_schedule,
            net_arch=self.net_arch,
            activation_fn=activation_fn,
            optimizer_class=optimizer_class,
            optimizer_kwargs=self._all_optimizer_kwargs(),
        )
        self.skill_policy = SACPolicyOnAnyDevice(
            spaces.Dict({"observation": state_space, "latent": spaces.Discrete(n_latents)}), **kwargs
        )
        self.goal_policy = SACPolicyOnAnyDevice(
            spaces.Dict({"observation": state_space, "desired_goal": observation_space["desired_goal"]}), **kwargs
        )
        self.discriminator = Discriminator(n_obs, n_latents, discriminator_net_arch, activation_fn, discriminator_indices)
        self.discriminator_optimizer = self._make_optimizer(self.discriminator, kwargs["lr_schedule"](1))

    @property
    def optimizer_names(self) -> list[str]:
        """Paths of the attributes that hold optimizers, which are saved with the model."""
        parts = [f"{policy}.{part}.optimizer" for policy in ("skill_policy", "goal_policy") for part in ("actor", "critic")]
        return [*parts, "discriminator_optimizer"]

    def forward(self, observations: dict[str, th.Tensor], deterministic: bool = True) -> th.Tensor:
        """The env's observations, (n, ...) each -> (n, n_actions) actions of the goal-conditioned policy, in [-1, 1]."""
        seen = {key: observations[key] for key in self.goal_policy.observation_space.spaces}  # type: ignore[attr-defined]
        if deterministic:  # the same, without SB3's distribution, which torch.export cannot follow
            return th.tanh(self.goal_policy.actor.get_action_dist_params(seen)[0])
        return self.goal_policy.actor(seen, deterministic)

    def set_training_mode(self, mode: bool) -> None:
        """Set the training mode of both policies, as SB3's method does for one."""
        self.skill_policy.set_training_mode(mode)
        self.goal_policy.set_training_mode(mode)
        self.training = mode

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = dict(
            n_latents=self.n_latents,
            discriminator_net_arch=self.discriminator_net_arch,
            discriminator_indices=self.discriminator_indices,
        )
        return {**super()._get_constructor_parameters(), **own}
