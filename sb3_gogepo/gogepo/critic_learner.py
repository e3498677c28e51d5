"""CriticLearner: TD3 beside the generator. It learns from every step of all candidates, whoever acted."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule, update_learning_rate
from stable_baselines3.common.vec_env import VecEnv
from torch import nn
from torch.nn.functional import mse_loss

from sb3_gogepo.buffers.transition_buffer import TransitionBuffer, Transitions
from sb3_gogepo.checks import check_bool, check_fraction, check_number, check_schedule, check_sizes
from sb3_gogepo.envs import attribute_of
from sb3_gogepo.gogepo.policies import GoGePoPolicy
from sb3_gogepo.networks.action_map import ActionMap
from sb3_gogepo.networks.normalization import ObservationNormalizer
from sb3_gogepo.networks.optimization import step_if_finite
from sb3_gogepo.networks.state_critic import StateCritic
from sb3_gogepo.rollouts.rollout import Episode

#: Of the generator, beside a critic: with a rate that falls to 0, it meets fewer commands.
CRITIC_LEARNING_RATE = 5e-4
#: Of policies beside a critic: with a weight bound of 3, or with tanh, actors saturate.
CRITIC_POLICY_KWARGS: dict[str, Any] = dict(weight_bound=6.0, activation_fn=nn.ReLU)
#: Where a critic helps, as measured (docs/howto/state_critic.md)
CRITIC_HELPS = ("HalfCheetah", "Hopper", "Walker2d", "Pendulum", "LunarLander")
#: Those that a file has without a pickle: no other may hide in ``critic_kwargs``, which loading needs
SAVED_SCHEDULES = (ConstantSchedule, LinearSchedule)
#: Observations in which the size of a policy's noise is measured
N_NOISE_OBSERVATIONS = 256


class CriticSettings(NamedTuple):
    """``critic_kwargs`` of :class:`~sb3_gogepo.GoGePo`; those of one name are TD3's.

    :param net_arch: hidden layers of each of the two critics.
    :param layer_norm: normalize their layers before each activation. HalfCheetah is learned sooner with it, Hopper later.
    :param learning_rate: of critics, actor and refined policies; a number, or SB3's ConstantSchedule or LinearSchedule. By
        default it falls to 0: what is learned last is steadier, and earns more (docs/tried.md).
    :param buffer_size: env steps kept.
    :param learning_starts: env steps before the first training; until then, GoGePo's candidates act alone.
    :param batch_size: env steps a gradient step sees.
    :param updates_per_step: critic updates an env step.
    :param gamma: discount factor.
    :param tau: fraction by which the targets move after each actor update.
    :param policy_delay: critic updates an actor update.
    :param target_policy_noise: standard deviation of the noise on target actions, which are in [-1, 1].
    :param target_noise_clip: its limit.
    :param imitation_coef: as GoGePo's, for the elites that the critic made: their noise is small.
    :param action_change: size of the weight noise of the actor and of refined policies, as the root of the mean square by
        which it changes their actions.
    :param refine_steps: policy gradient steps that make a refined policy of a generated one.
    """

    net_arch: tuple[int, ...] = (128, 128)
    layer_norm: bool = False
    learning_rate: float | Schedule = LinearSchedule(start=1e-3, end=0.0, end_fraction=1.0)
    buffer_size: int = 1_000_000
    learning_starts: int = 5_000
    batch_size: int = 128
    updates_per_step: float = 1.0
    gamma: float = 0.99
    tau: float = 0.005
    policy_delay: int = 2
    target_policy_noise: float = 0.2
    target_noise_clip: float = 0.5
    imitation_coef: float = 30.0
    action_change: float = 0.15
    refine_steps: int = 50

    @classmethod
    def of(cls, critic_kwargs: dict[str, Any] | None) -> CriticSettings:
        """The settings of ``critic_kwargs``.

        :raises ValueError: naming the key, for an unknown one or a value outside its range.
        """
        if not isinstance(critic_kwargs, dict | None):
            raise ValueError(f"critic_kwargs must be a dict or None, got {critic_kwargs!r}")
        given = dict(critic_kwargs or {})
        unknown = sorted(set(given) - set(cls._fields))
        if unknown:
            raise ValueError(f"critic_kwargs has no {unknown[0]!r}; it may have {', '.join(cls._fields)}")
        settings = cls(**given)
        check_sizes("critic_kwargs['net_arch']", settings.net_arch, allow_empty=False)
        check_bool("critic_kwargs['layer_norm']", settings.layer_norm)
        for name in ("buffer_size", "batch_size", "policy_delay"):
            check_number(f"critic_kwargs[{name!r}]", getattr(settings, name), minimum=1, integer=True)
        for name in ("learning_starts", "refine_steps"):
            check_number(f"critic_kwargs[{name!r}]", getattr(settings, name), minimum=0, integer=True)
        check_schedule("critic_kwargs['learning_rate']", settings.learning_rate)
        if callable(settings.learning_rate) and not isinstance(settings.learning_rate, SAVED_SCHEDULES):
            known = " or ".join(kind.__name__ for kind in SAVED_SCHEDULES)
            raise ValueError(f"critic_kwargs['learning_rate'] must be a number or a {known}, got {settings.learning_rate!r}")
        for name in ("updates_per_step", "target_policy_noise", "target_noise_clip", "imitation_coef", "action_change"):
            check_number(f"critic_kwargs[{name!r}]", getattr(settings, name), minimum=0)
        for name in ("gamma", "tau"):
            check_fraction(f"critic_kwargs[{name!r}]", getattr(settings, name))
        return settings._replace(net_arch=tuple(settings.net_arch))

    def complete(self, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a policy that has a critic."""
        of_critic = dict(critic_net_arch=list(self.net_arch), critic_layer_norm=self.layer_norm)
        return {**CRITIC_POLICY_KWARGS, **policy_kwargs, **of_critic}


class CriticLearner:
    """Trains a :class:`~sb3_gogepo.networks.state_critic.StateCritic`.

    :param critic: what is trained.
    :param optimizers: of the critics and of the actor.
    :param normalizer: of the observations.
    :param transitions: all steps so far.
    :param progress_remaining: of the training, from 1 to 0: decides on the learning rate.
    """

    def __init__(
        self,
        settings: CriticSettings,
        critic: StateCritic,
        optimizers: tuple[th.optim.Optimizer, th.optim.Optimizer],
        normalizer: ObservationNormalizer,
        transitions: TransitionBuffer,
        progress_remaining: float,
    ) -> None:
        self.learning_rate = FloatSchedule(settings.learning_rate)(progress_remaining)
        self.settings, self.critic, self.normalizer, self.transitions = settings, critic, normalizer, transitions
        self.critics_optimizer, self.actor_optimizer = optimizers

    @classmethod
    def of(
        cls,
        policy: GoGePoPolicy,
        transitions: TransitionBuffer,
        critic_kwargs: dict[str, Any] | None,
        progress_remaining: float,
    ) -> CriticLearner:
        """The learner of a policy that has a critic."""
        assert policy.critic is not None
        optimizers = (policy.critics_optimizer, policy.actor_optimizer)
        settings = CriticSettings.of(critic_kwargs)
        return cls(settings, policy.critic, optimizers, policy.normalizer, transitions, progress_remaining)

    def add(self, episode: Episode, action_map: ActionMap) -> None:
        """Keep the steps of an episode, with its actions in [-1, 1], or as choices from 0."""
        assert episode.observations is not None
        assert episode.actions is not None
        assert episode.rewards is not None
        assert episode.last_observation is not None
        self.transitions.add_episode(
            episode.observations,
            action_map.scale(episode.actions),
            episode.rewards,
            episode.last_observation,
            terminated=bool(episode.terminated),
        )

    @property
    def has_started(self) -> bool:
        """Have enough env steps been made?"""
        return self.transitions.n_added >= max(1, self.settings.learning_starts)

    def n_updates_due(self) -> int:
        """Critic updates that belong to all steps so far."""
        return int(self.settings.updates_per_step * self.transitions.n_added)

    def train(self, first: int, last: int) -> dict[str, list[th.Tensor]]:
        """Critic updates number ``first`` to ``last`` - 1, and the actor updates among them; returns their losses."""
        for optimizer in (self.critics_optimizer, self.actor_optimizer):
            update_learning_rate(optimizer, self.learning_rate)
        critic_losses, actor_losses = [], []
        for number in range(first, last):
            if (number - first) % 100 == 0:  # sampling many at once is cheaper
                n_batches = min(100, last - number)
                batches = self._normalized(self.transitions.sample_batches(n_batches, self.settings.batch_size))
                noise = self._target_noise(batches.actions)
            batch = Transitions(*(part[(number - first) % 100] for part in batches))
            critic_losses.append(self.train_critics(batch, noise[(number - first) % 100]))
            if number % self.settings.policy_delay == 0:
                actor_losses.append(self.train_actor(batch.observations))
                self.critic.update_targets(self.settings.tau)
        return dict(critic_loss=critic_losses, actor_loss=actor_losses)

    def _normalized(self, batches: Transitions) -> Transitions:
        return batches._replace(
            observations=self.normalizer(batches.observations), next_observations=self.normalizer(batches.next_observations)
        )

    def _target_noise(self, actions: th.Tensor) -> th.Tensor:
        """Noise of the shape of ``actions``."""
        std, limit = self.settings.target_policy_noise, self.settings.target_noise_clip
        drawn = self.transitions.rng.standard_normal(tuple(actions.shape), dtype=np.float32)
        return th.from_numpy(std * drawn).clamp_(-limit, limit).to(actions.device)

    def train_critics(self, batch: Transitions, noise: th.Tensor) -> th.Tensor:
        """One gradient step on both critics towards r + gamma * min Q'(s', a' + noise); returns the loss (nan: no step)."""
        critic = self.critic
        with th.no_grad():
            next_actions = critic.act_smoothed(batch.next_observations, noise)
            next_values = th.minimum(*critic.critics_target(batch.next_observations, next_actions))
            targets = batch.rewards + self.settings.gamma * (1 - batch.dones) * next_values
        first, second = critic.critics(batch.observations, critic.as_seen(batch.actions))
        return step_if_finite(self.critics_optimizer, mse_loss(first, targets) + mse_loss(second, targets))

    def train_actor(self, observations: th.Tensor) -> th.Tensor:
        """One gradient step of the actor up the first critic; returns the loss (nan: no step)."""
        loss = self._climb(self.critic.actor, self.actor_optimizer, observations)
        self.critic.bound(self.critic.actor.detach())
        return loss

    def _climb(self, weights: th.Tensor, optimizer: th.optim.Optimizer, observations: th.Tensor) -> th.Tensor:
        self.critic.critics.requires_grad_(False)  # its gradients are not needed: save computing them
        values = self.critic.critics.q1_forward(observations, self.critic.act(weights, observations))
        loss = step_if_finite(optimizer, -values.mean())
        self.critic.critics.requires_grad_(True)
        return loss

    def candidate(self, generated: th.Tensor | None, noise: th.Tensor) -> th.Tensor:
        """(n_weights,) of a policy to try: the actor, or a generated one refined, and noise."""
        return self.noisy(self.critic.actor.detach() if generated is None else self.refine(generated), noise)

    def refine(self, weights: th.Tensor) -> th.Tensor:
        """(n_weights,) of a policy, moved by policy gradient steps."""
        refined = weights.to(self.critic.actor.device, copy=True).requires_grad_()
        optimizer = th.optim.Adam([refined], lr=self.learning_rate, fused=True)
        n = self.settings.refine_steps
        for observations in self.normalizer(self.transitions.sample_batches(n, self.settings.batch_size).observations):
            self._climb(refined, optimizer, observations)
            self.critic.bound(refined.detach())
        return refined.detach()

    @th.no_grad()
    def noisy(self, weights: th.Tensor, noise: th.Tensor) -> th.Tensor:
        """(n_weights,) of a policy, plus as much of the noise as changes its actions by ``action_change``.

        (Plappert et al., "Parameter Space Noise for Exploration", ICLR 2018, section 3.)
        """
        observations = self.normalizer(self.transitions.latest_observations(N_NOISE_OBSERVATIONS))
        actions, size = self.critic.act(weights, observations), 0.1
        for _ in range(3):
            change = (self.critic.act(weights + size * noise, observations) - actions).square().mean().sqrt().item()
            size = min(size * self.settings.action_change / max(change, 1e-3), 1.0)
        return weights + size * noise


def say_where_it_helps(env: VecEnv | None) -> None:
    """Print a line if the env is one where a critic is known to help."""
    spec = None if env is None else attribute_of(env, "spec")
    if spec is not None and spec.id.split("-")[0] in CRITIC_HELPS:
        print(f"{spec.id} is learned in far fewer env steps with use_critic=True, which learns from each step, too.")
