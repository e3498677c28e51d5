"""UDRLPGPolicy: the generator with its optimizer; there is no evaluator."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.type_aliases import Schedule

from sb3_gogepo.networks.policies import GeneratorPolicy


class UDRLPGPolicy(GeneratorPolicy):
    """Generator G. All arguments are those of :class:`~sb3_gogepo.networks.policies.GeneratorPolicy`."""

    optimizer_names = ("generator_optimizer",)

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Box | spaces.Discrete,
        lr_schedule: Schedule | None = None,
        **generator_kwargs: Any,
    ) -> None:
        super().__init__(observation_space, action_space, lr_schedule=lr_schedule, **generator_kwargs)
        learning_rate = 0.0 if lr_schedule is None else lr_schedule(1)  # the algorithm sets it before each update
        self.generator_optimizer = self._make_optimizer(self.generator, learning_rate)
