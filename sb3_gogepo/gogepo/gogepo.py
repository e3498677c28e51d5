"""GoGePo, Goal-Conditioned Generators of Deep Policies (Faccio, Herrmann, Ramesh, Kirsch, Schmidhuber; AAAI 2023).

Paper: https://arxiv.org/abs/2207.01570. Reference code: https://github.com/IDSIA/GoGePo.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import FloatSchedule, update_learning_rate

from sb3_gogepo.common.command_algorithm import CommandAlgorithm
from sb3_gogepo.common.losses import evaluator_loss, generator_loss
from sb3_gogepo.gogepo.policies import GoGePoPolicy


class GoGePo(CommandAlgorithm):
    policy: GoGePoPolicy
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": GoGePoPolicy}

    def __init__(
        self,
        policy: str | type[GoGePoPolicy] | GymEnv = "MlpPolicy",
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule = 4e-5,
        evaluator_learning_rate: float | Schedule = 1e-3,
        buffer_size: int = 10_000,
        batch_size: int = 16,
        recency: float = 1.1,
        train_freq: int | tuple[int, str] = (1, "episode"),
        evaluator_gradient_steps: int = 4,
        generator_gradient_steps: int = 10,
        weight_noise_std: float = 0.1,
        noise_mode: str = "constant",
        first_command: float = 1.0,
        command_increment: float = 20.0,
        increment_std: float = 0.0,
        return_range: tuple[float, float] | None = None,
        n_candidates: int | None = None,
        alive_bonus_offset: float = 0.0,
        normalize_observations: bool = True,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy=policy,
            env=env,
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            batch_size=batch_size,
            recency=recency,
            train_freq=train_freq,
            weight_noise_std=weight_noise_std,
            n_candidates=n_candidates,
            alive_bonus_offset=alive_bonus_offset,
            normalize_observations=normalize_observations,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
        )
        self.evaluator_learning_rate = evaluator_learning_rate
        self.evaluator_gradient_steps = evaluator_gradient_steps
        self.generator_gradient_steps = generator_gradient_steps
        self.first_command = first_command
        self.command_increment = command_increment
        self.increment_std = increment_std
        self.return_range = return_range
        self.noise_mode = noise_mode
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.return_range is not None:
            low, high = self.return_range
            self.policy.scaler.scale.fill_(high - low)
        if self.noise_mode == "fan_in":
            parts = []
            for n_in, n_out in self.policy.layout.shapes:
                parts += [th.full((n_in * n_out + n_out,), self.weight_noise_std / n_in**0.5)]
            self._noise = th.cat(parts)

    @property
    def noise_scale(self):
        return self._noise if self.noise_mode == "fan_in" else self.weight_noise_std

    def next_commands(self, n_candidates: int) -> np.ndarray:
        if self.best_return is None:
            return np.full(n_candidates, self.first_command)
        inc = self.command_increment + self.increment_std * float(self.policy.scaler.scale)
        return np.full(n_candidates, self.best_return + inc)

    def train(self, n_rounds: int) -> None:
        if self.return_range is None:
            returns = self.replay_buffer.returns[: len(self.replay_buffer)]
            self.policy.scaler.fit(returns)
            self.policy.return_scaler.fit(returns)
        update_learning_rate(self.policy.generator_optimizer, self.lr_schedule(self._current_progress_remaining))
        update_learning_rate(self.policy.evaluator_optimizer, FloatSchedule(self.evaluator_learning_rate)(self._current_progress_remaining))
        el, gl = [], []
        for _ in range(n_rounds):
            for _ in range(self.evaluator_gradient_steps):
                el.append(self.train_evaluator())
            self.policy.evaluator.requires_grad_(False)
            for _ in range(self.generator_gradient_steps):
                gl.append(self.train_generator())
            self.policy.evaluator.requires_grad_(True)
        self.logger.record("train/evaluator_loss", float(np.mean([float(x) for x in el])))
        self.logger.record("train/generator_loss", float(np.mean([float(x) for x in gl])))

    def train_evaluator(self) -> th.Tensor:
        batch = self.replay_buffer.sample(min(self.batch_size, len(self.replay_buffer)))
        layers = self.policy.layout.split(batch.policy_weights)
        loss = evaluator_loss(self.policy.evaluator, layers, self.policy.return_scaler(batch.returns))
        self.policy.evaluator_optimizer.zero_grad()
        loss.backward()
        self.policy.evaluator_optimizer.step()
        return loss.detach()

    def train_generator(self) -> th.Tensor:
        commands = self.replay_buffer.sample_returns(min(self.batch_size, len(self.replay_buffer)))
        layers = self.policy.generate_layers(commands)
        loss = generator_loss(self.policy.evaluator, layers, self.policy.return_scaler(commands))
        self.policy.generator_optimizer.zero_grad()
        loss.backward()
        self.policy.generator_optimizer.step()
        return loss.detach()
