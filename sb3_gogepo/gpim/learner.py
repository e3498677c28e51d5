"""SACLearner: SB3's SAC as a component, which is given a policy and a buffer and runs no episodes."""

from __future__ import annotations

from typing import Any

from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac.policies import SACPolicy

from sb3_gogepo.gpim.latent_buffer import LatentBuffer


class SACLearner(SAC):
    """SB3's ``SAC.train`` on a given policy and buffer, with a fixed entropy coefficient.

    :param policy: the policy, which is trained in place by its own optimizers.
    :param replay_buffer: where batches come from.
    :param learning_rate: learning rate or schedule of actor and critic.
    :param tau: step size with which the target critic follows the critic.
    :param gamma: discount factor.
    :param ent_coef: entropy coefficient.
    """

    def __init__(
        self,
        policy: SACPolicy,
        replay_buffer: LatentBuffer,
        learning_rate: float | Schedule,
        tau: float,
        gamma: float,
        ent_coef: float,
    ) -> None:
        super().__init__(
            policy=type(policy),
            env=None,  # type: ignore[arg-type]
            learning_rate=learning_rate,
            tau=tau,
            gamma=gamma,
            ent_coef=ent_coef,
            target_entropy=0.0,  # unused: the coefficient is fixed. "auto" would ask the env
            device=policy.device,
            _init_setup_model=False,
        )
        self.observation_space, self.action_space = policy.observation_space, policy.action_space
        self.replay_buffer = replay_buffer
        self.policy_class: Any = lambda *_, **__: policy  # SAC makes its policy by calling this
        self._setup_model()
        self.set_logger(Logger(folder=None, output_formats=[]))

    def train_steps(self, gradient_steps: int, batch_size: int, progress_remaining: float) -> dict[str, float]:
        """Make gradient steps and return the mean losses, ``actor_loss`` and ``critic_loss``."""
        self._current_progress_remaining = progress_remaining
        self.train(gradient_steps=gradient_steps, batch_size=batch_size)
        return {name: self.logger.name_to_value[f"train/{name}"] for name in ("actor_loss", "critic_loss")}
