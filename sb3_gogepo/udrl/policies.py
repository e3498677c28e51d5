"""UDRLPolicy: the behavior function, what it needs to act, and the command state that ``predict`` hands on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from sb3_gogepo.checks import check_number, check_range, check_sizes
from sb3_gogepo.networks.action_map import ActionMap
from sb3_gogepo.networks.normalization import ObservationNormalizer, ReturnScaler, dtype_of
from sb3_gogepo.networks.policies import PicklefreePolicy, check_activation, check_command


class BehaviorOutputs(NamedTuple):
    """Action distributions for n observations and commands.

    :param means: (n, n_outputs) means in [-1, 1] (Box) or logits (Discrete).
    :param log_stds: (n, n_outputs) logs of the standard deviations (Box); None for Discrete.
    """

    means: th.Tensor
    log_stds: th.Tensor | None


class BehaviorFunction(nn.Module):
    """(normalized observation, scaled command) -> action distribution; the command gates the first hidden layer.

    :param n_obs: size of an observation.
    :param n_outputs: number of a Box's actions, or of a Discrete space's choices.
    :param hidden_sizes: units of each hidden layer. The command gates the first one.
    :param activation_fn: class of the activation between the layers.
    :param log_std_range: bounds of a Box's log standard deviation (in units of half the action range); None: the action
        space is Discrete.
    """

    def __init__(
        self,
        n_obs: int,
        n_outputs: int,
        hidden_sizes: Sequence[int],
        activation_fn: type[nn.Module],
        log_std_range: tuple[float, float] | None,
    ) -> None:
        super().__init__()
        self.n_outputs, self.log_std_range = n_outputs, log_std_range
        self.observation_layer = nn.Linear(n_obs, hidden_sizes[0])
        self.command_layer = nn.Linear(2, hidden_sizes[0])
        self.activation, self.gate = activation_fn(), nn.Sigmoid()
        n_last = n_outputs if log_std_range is None else 2 * n_outputs
        self.rest = nn.Sequential(*create_mlp(hidden_sizes[0], n_last, list(hidden_sizes[1:]), activation_fn=activation_fn))

    def forward(self, observations: th.Tensor, commands: th.Tensor) -> BehaviorOutputs:
        """(n, n_obs) normalized observations, (n, 2) scaled desired returns and horizons -> action distributions."""
        return self.to_distributions(self.last_layer(observations, commands))

    def last_layer(
        self, observations: Any, commands: Any, function_of: Callable[[nn.Module], Callable[[Any], Any]] | None = None
    ) -> Any:
        """The network up to the outputs of its last layer, in torch or in NumPy.

        :param observations: (n, n_obs) normalized observations.
        :param commands: (n, 2) scaled desired returns and horizons.
        :param function_of: module -> function that computes it; None: the module itself computes it.
        :return: (n, n_outputs) for Discrete, (n, 2 * n_outputs) for a Box.
        """
        of: Callable[[Any], Any] = function_of or (lambda module: module)
        gate = of(self.gate)(of(self.command_layer)(commands))
        hidden = of(self.activation)(of(self.observation_layer)(observations)) * gate
        for module in self.rest:
            hidden = of(module)(hidden)
        return hidden

    def to_distributions(self, outputs: th.Tensor) -> BehaviorOutputs:
        """Outputs of :meth:`last_layer` -> n action distributions."""
        if self.log_std_range is None:
            return BehaviorOutputs(means=outputs, log_stds=None)
        means, log_stds = outputs.split(self.n_outputs, dim=1)
        return BehaviorOutputs(means=th.tanh(means), log_stds=log_stds.clamp(*self.log_std_range))


class CommandState(NamedTuple):
    """The envs' present commands, which :meth:`UDRLPolicy.predict` takes and returns.

    :param returns: (n_envs,) desired returns.
    :param horizons: (n_envs,) desired horizons in env steps.
    """

    returns: np.ndarray
    horizons: np.ndarray


class UDRLPolicy(PicklefreePolicy):
    """A behavior function with all it needs to act: command, scaling and observation statistics.

    :param observation_space: flat Box.
    :param action_space: Box with finite bounds, or Discrete.
    :param lr_schedule: its first value is the optimizer's learning rate until the algorithm sets another; None: 0.
    :param net_arch: hidden layers of the behavior function; the command gates the first.
    :param activation_fn: class of the activation between the layers of the behavior function. It has no parameters.
    :param log_std_range: (lowest, highest) log standard deviation of a Box's actions, scaled to [-1, 1]. The lowest one
        keeps the likelihood of clipped actions finite. Without effect for Discrete.
    :param reward_net_arch: hidden layers of the reward model, which stands in for rewards in :meth:`predict`.
    :param optimizer_class: class of the optimizer, which trains behavior function and reward model.
    :param optimizer_kwargs: arguments of the optimizer, without ``lr``; None: none.
    :raises ValueError: naming the argument, for any value outside its range.
    """

    observation_space: spaces.Box
    action_space: spaces.Box | spaces.Discrete
    optimizer_names = ("optimizer",)

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Box | spaces.Discrete,
        lr_schedule: Schedule | None = None,
        net_arch: Sequence[int] = (64, 64),
        activation_fn: type[nn.Module] = nn.Tanh,
        log_std_range: tuple[float, float] = (-5.0, 2.0),
        reward_net_arch: Sequence[int] = (64,),
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            squash_output=isinstance(action_space, spaces.Box),
        )
        check_sizes("net_arch", net_arch, allow_empty=False)
        check_sizes("reward_net_arch", reward_net_arch)
        check_activation("activation_fn", activation_fn)
        check_range("log_std_range", log_std_range)
        self.net_arch, self.reward_net_arch, self.activation_fn = list(net_arch), list(reward_net_arch), activation_fn
        self.log_std_range = tuple(log_std_range)
        self.action_map = ActionMap(action_space)
        n_obs, n_outputs = observation_space.shape[0], self.action_map.n_outputs
        is_box = isinstance(action_space, spaces.Box)
        self.behavior = BehaviorFunction(n_obs, n_outputs, net_arch, activation_fn, log_std_range if is_box else None)
        self.reward_model = nn.Sequential(*create_mlp(n_obs + n_outputs, 1, list(reward_net_arch)))
        self.normalizer = ObservationNormalizer(n_obs, dtype_of(observation_space))
        self.return_scaler, self.horizon_scaler, self.reward_scaler = ReturnScaler(), ReturnScaler(), ReturnScaler()
        self._command: th.Tensor
        self._horizon: th.Tensor
        self.register_buffer("_command", th.zeros((), dtype=th.float64))
        self.register_buffer("_horizon", th.ones((), dtype=th.float64))
        self.optimizer = self._make_optimizer(
            nn.ModuleList([self.behavior, self.reward_model]), 0.0 if lr_schedule is None else lr_schedule(1)
        )

    @property
    def command(self) -> float:
        """The return, in return units, that ``predict`` aims at from the start of an episode."""
        return float(self._command)

    @command.setter
    def command(self, value: float) -> None:
        self._command.fill_(check_command(value))

    @property
    def horizon(self) -> float:
        """The number of env steps in which ``predict`` is to achieve :attr:`command`."""
        return float(self._horizon)

    @horizon.setter
    def horizon(self, value: float) -> None:
        check_number("horizon", value, minimum=1)
        self._horizon.fill_(value)

    def distribution(self, observations: th.Tensor, returns: th.Tensor, horizons: th.Tensor) -> BehaviorOutputs:
        """(n, n_obs) raw observations, (n,) desired returns and horizons in their own units -> action distributions."""
        commands = th.stack([self.return_scaler(returns), self.horizon_scaler(horizons)], dim=1)
        return self.behavior(self.normalizer(observations), commands)

    def one_hot(self, actions: th.Tensor) -> th.Tensor:
        """(n, n_actions) stored actions -> (n, n_outputs): as they are (Box), or one-hot (Discrete)."""
        if not self.action_map.is_discrete:
            return actions
        return nn.functional.one_hot(actions.squeeze(1).long(), self.action_map.n_outputs).float()

    def predict_rewards(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """(n, n_obs) raw observations, (n, n_actions) stored actions -> (n,) scaled rewards."""
        return self.reward_model(th.cat([self.normalizer(observations), self.one_hot(actions)], dim=1)).squeeze(1)

    def choose(self, outputs: BehaviorOutputs, noise: th.Tensor | None) -> th.Tensor:
        """Action distributions -> (n, n_actions) stored actions: in [-1, 1] (Box), or choices from 0 (Discrete).

        :param outputs: (n, n_outputs) parameters of the distributions.
        :param noise: (n, n_outputs) draws from N(0, 1) (Box) or from the standard Gumbel distribution (Discrete), from
            which actions are sampled; None: the mean, or the most likely choice.
        """
        if outputs.log_stds is None:
            return (outputs.means if noise is None else outputs.means + noise).argmax(dim=1, keepdim=True).float()
        return outputs.means if noise is None else (outputs.means + outputs.log_stds.exp() * noise).clamp(-1, 1)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions, and the command state to pass on to the next call, as with a recurrent policy of SB3.

        At an episode's start the command is (:attr:`command`, :attr:`horizon`). After each step the desired horizon falls
        by 1 (down to 1) and the desired return by the reward. ``predict`` does not see rewards, so it uses the reward
        model's prediction.

        :param observation: (n_obs,) or (n_envs, n_obs) raw observations.
        :param state: what the call before returned; None: all envs are at the start of an episode.
        :param episode_start: (n_envs,) which envs are at the start of an episode; None: none is.
        :param deterministic: take the mean or the most likely action, rather than a sample.
        :return: actions of the env, and the state for the next call.
        """
        self.set_training_mode(False)
        if isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict):
            raise ValueError("observation must be an array, got a tuple: of what env.reset() returns, pass the first part")
        observations, is_vectorized = self.obs_to_tensor(observation)
        assert isinstance(observations, th.Tensor)
        n = len(observations)
        starts = np.zeros(n, dtype=bool) if episode_start is None else np.broadcast_to(np.asarray(episode_start, bool), (n,))
        if state is None:
            state, starts = (np.zeros(n), np.zeros(n)), np.ones(n, dtype=bool)
        returns = np.where(starts, self.command, state[0])
        horizons = np.where(starts, self.horizon, state[1])
        with th.no_grad():
            outputs = self.distribution(observations, self._to_tensor(returns), self._to_tensor(horizons))
            stored = self.choose(outputs, None if deterministic else self._noise_like(outputs.means))
            rewards = self.reward_scaler.unscale(self.predict_rewards(observations, stored).double()).cpu().numpy()
        next_state = CommandState(returns=returns - rewards, horizons=np.maximum(horizons - 1, 1))
        actions = self.action_map.unscale(stored.cpu().numpy())
        return (actions if is_vectorized else actions.squeeze(axis=0)), next_state

    def _noise_like(self, values: th.Tensor) -> th.Tensor:
        return -th.log(-th.log(th.rand_like(values))) if self.action_map.is_discrete else th.randn_like(values)

    def _to_tensor(self, values: np.ndarray) -> th.Tensor:
        return th.as_tensor(values, dtype=th.float64, device=self.device)

    def forward(self, observations: th.Tensor, deterministic: bool = True) -> th.Tensor:
        """(n, n_obs) raw observations at an episode's start -> (n, n_actions) stored actions."""
        n = observations.shape[0]
        outputs = self.distribution(observations, self._command.expand(n), self._horizon.expand(n))
        return self.choose(outputs, None if deterministic else self._noise_like(outputs.means))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = dict(log_std_range=self.log_std_range, reward_net_arch=self.reward_net_arch)
        return {**super()._get_constructor_parameters(), **own}
