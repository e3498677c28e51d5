"""GoGePoPolicy: generator and evaluator with their optimizers, and all the policy needs to act."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from sb3_gogepo.checks import check_choice, check_number, check_sizes
from sb3_gogepo.networks.evaluator import Evaluator, WeightsEvaluator
from sb3_gogepo.networks.normalization import ReturnScaler
from sb3_gogepo.networks.policies import GeneratorPolicy
from sb3_gogepo.networks.state_critic import StateCritic


class GoGePoPolicy(GeneratorPolicy):
    """Generator G and evaluator V.

    :param n_evaluators: independent evaluators, as the critics of TD3 and SAC: where they disagree, nobody knows, and the
        generator's loss is large.
    :param n_probing_states: probing states of each evaluator.
    :param evaluator_net_arch: hidden layers from the probing actions to the return.
    :param probing_states_init: ``"uniform"`` on [0, 1) as the original, or ``"normal"``, where normalized observations lie.
    :param scale_probing_actions: probing actions of a Box in the env's units as the original, rather than in [-1, 1].
    :param evaluator_input: what the evaluator reads of a policy: ``"probing_actions"``, or the raw ``"weights"``, for
        comparison; the arguments about probing states then have no effect.
    :param weight_bound: no generated weight is larger than ``weight_bound / sqrt(n_in)``. Without a bound, commands above
        what the evaluator has seen drive weights to many times that, and noise no longer changes what a policy does.
    :param critic_net_arch: hidden layers of a state critic's two networks; None: there is none. Set by ``critic_kwargs`` of
        the algorithm.
    :param critic_layer_norm: normalize the layers of these networks before each activation; likewise.
    """

    optimizer_names: tuple[str, ...] = ("generator_optimizer", "evaluator_optimizer")

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Box | spaces.Discrete,
        lr_schedule: Schedule | None = None,
        n_evaluators: int = 5,
        n_probing_states: int = 10,
        evaluator_net_arch: Sequence[int] = (256, 256),
        probing_states_init: str = "normal",
        scale_probing_actions: bool = False,
        evaluator_input: str = "probing_actions",
        weight_bound: float | None = 3.0,
        critic_net_arch: Sequence[int] | None = None,
        critic_layer_norm: bool = False,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        **generator_kwargs: Any,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            lr_schedule=lr_schedule,
            weight_bound=weight_bound,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            **generator_kwargs,
        )
        check_number("n_evaluators", n_evaluators, minimum=1, integer=True)
        check_number("n_probing_states", n_probing_states, minimum=1, integer=True)
        check_sizes("evaluator_net_arch", evaluator_net_arch)
        check_choice("probing_states_init", probing_states_init, ("uniform", "normal"))
        check_choice("evaluator_input", evaluator_input, ("probing_actions", "weights"))
        self.evaluator_kwargs = dict(
            n_evaluators=n_evaluators,
            n_probing_states=n_probing_states,
            evaluator_net_arch=list(evaluator_net_arch),
            probing_states_init=probing_states_init,
            scale_probing_actions=scale_probing_actions,
            evaluator_input=evaluator_input,
        )
        self.evaluator: Evaluator | WeightsEvaluator
        if evaluator_input == "weights":
            self.evaluator = WeightsEvaluator(n_evaluators, self.layout, net_arch=evaluator_net_arch)
        else:
            draw = th.rand if probing_states_init == "uniform" else th.randn
            self.evaluator = Evaluator(
                probing_states=draw(n_evaluators, n_probing_states, observation_space.shape[0]),
                n_actions=self.action_map.n_outputs,
                activation=self.activation,
                squash=self.action_map.squash_to_env_units if scale_probing_actions else self.action_map.squash,
                net_arch=evaluator_net_arch,
            )
        self.critic: StateCritic | None = None
        self.critic_net_arch = None if critic_net_arch is None else list(critic_net_arch)
        self.critic_layer_norm = critic_layer_norm
        if critic_net_arch is not None:
            self.critic = StateCritic(
                observation_space,
                action_space,
                self.layout,
                self.activation,
                critic_net_arch,
                weight_bound,
                critic_layer_norm,
            )
        self.return_scaler = ReturnScaler()  # of the evaluator's predictions; the commands have a scaler of their own
        learning_rate = 0.0 if lr_schedule is None else lr_schedule(1)  # the algorithm sets both before each update
        self.generator_optimizer = self._make_optimizer(self.generator, learning_rate)
        self.evaluator_optimizer = self._make_optimizer(self.evaluator, learning_rate)
        if self.critic is not None:
            self.optimizer_names = (*type(self).optimizer_names, "critics_optimizer", "actor_optimizer")
            self.critics_optimizer = self._make_optimizer(self.critic.critics, learning_rate)
            self.actor_optimizer = self._make_optimizer(nn.ParameterList([self.critic.actor]), learning_rate)

    @th.no_grad()
    def predict_returns(self, commands: np.ndarray | Sequence[float]) -> np.ndarray:
        """V(G(c)) for (n_commands,) commands: (n_commands,) returns the evaluators expect on average, in return units."""
        layers = self.generate_layers(th.as_tensor(np.asarray(commands, dtype=np.float64), device=self.device))
        predictions = self.evaluator(layers).mean(dim=0)
        return self.return_scaler.unscale(predictions.double()).cpu().numpy()

    def _get_constructor_parameters(self) -> dict[str, Any]:
        critic_kwargs = dict(critic_net_arch=self.critic_net_arch, critic_layer_norm=self.critic_layer_norm)
        return {**super()._get_constructor_parameters(), **self.evaluator_kwargs, **critic_kwargs}
