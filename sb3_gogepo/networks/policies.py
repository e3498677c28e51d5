"""Policies that a generator makes: GeneratorPolicy (any command) and GeneratedPolicy (one command, stand-alone)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import get_device
from torch import nn

from sb3_gogepo.checks import check_number, check_sizes
from sb3_gogepo.networks.action_map import ActionMap
from sb3_gogepo.networks.calibration import Calibration
from sb3_gogepo.networks.generator import Generator
from sb3_gogepo.networks.normalization import ObservationNormalizer, ReturnScaler, dtype_of
from sb3_gogepo.networks.policy_weights import Layer, WeightLayout, forward_policies
from sb3_gogepo.saving import archive
from sb3_gogepo.saving.load_checks import check_acts, check_policy_fits
from sb3_gogepo.saving.untrusted import refusing

SelfPolicy = TypeVar("SelfPolicy", bound="PicklefreePolicy")


class PicklefreePolicy(BasePolicy):
    """SB3's BasePolicy whose ``save`` and ``load`` use no pickle: tensors, and the constructor's arguments as JSON."""

    net_arch: list[int]
    activation_fn: type[nn.Module]

    def _make_optimizer(self, module: nn.Module, learning_rate: float) -> th.optim.Optimizer:
        kwargs = self._all_optimizer_kwargs()
        return self.optimizer_class(module.parameters(), lr=learning_rate, **kwargs)  # type: ignore[call-arg]

    def _all_optimizer_kwargs(self) -> dict[str, Any]:
        """``optimizer_kwargs``, and Adam's fused kernel, one for all parameters, unless they say otherwise."""
        if not (isinstance(self.optimizer_class, type) and issubclass(self.optimizer_class, th.optim.Optimizer)):
            raise ValueError(f"optimizer_class must be a torch.optim.Optimizer class, got {self.optimizer_class!r}")
        has_fused_kernel = self.optimizer_class in (th.optim.Adam, th.optim.AdamW)
        return {"fused": True, **self.optimizer_kwargs} if has_fused_kernel else dict(self.optimizer_kwargs)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self(observation, deterministic)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return dict(
            observation_space=self.observation_space,
            action_space=self.action_space,
            net_arch=self.net_arch,
            activation_fn=self.activation_fn,
            optimizer_class=self.optimizer_class,
            optimizer_kwargs=self.optimizer_kwargs,
        )

    def obs_to_tensor(self, observation: np.ndarray | dict[str, np.ndarray]) -> tuple[PyTorchObs, bool]:
        """As SB3's, from any numbers: cast to the space's dtype, or float64 where that is not one of floats."""
        if isinstance(self.observation_space, spaces.Box):
            observation = np.asarray(observation, dtype=dtype_of(self.observation_space))
        return super().obs_to_tensor(observation)

    def forget_acting_weights(self) -> None:
        """Drop what ``predict`` keeps between calls, if anything. Called when something that it depends on has changed."""

    def save(self, path: archive.PathOrFile) -> None:
        """Write the policy to ``path``, atomically."""
        arguments = archive.encode_settings(self._get_constructor_parameters())
        archive.write_tensors(path, {"state_dict": self.state_dict(), "data": json.dumps(arguments)}, suffix="")

    @classmethod
    def load(
        cls: type[SelfPolicy], path: archive.PathOrFile, device: th.device | str = "auto", trust: bool = False, **kwargs: Any
    ) -> SelfPolicy:
        """Read a policy; no code from the file is run unless ``trust`` is True.

        :param path: a path, or an open file.
        :param device: where the policy is put.
        :param trust: run code from the file where it holds some. Do so only with files of your own.
        :param kwargs: constructor arguments that replace those in the file, e.g. an ``activation_fn`` that a script defines.
        :raises InvalidFileError: if the file is damaged, of another policy class, or needs ``trust``.
        """
        name = archive.name_of(path)
        content = archive.read_tensors(path, device=get_device(device))
        with refusing(f"{name} was not saved by {cls.__name__}.save"):
            encoded, state_dict = archive.parse_settings(content["data"], name), content["state_dict"]
        needed = {key: value for key, value in encoded.items() if key not in kwargs}  # what is replaced is not even read
        arguments = {**archive.decode_settings(needed, trust, name), **kwargs}
        with refusing(f"{name} does not hold a {cls.__name__}"):
            check_policy_fits(cls, arguments, state_dict)
            policy = cls(**arguments)
            policy.load_state_dict(state_dict)
        policy.to(get_device(device))
        with refusing(f"the policy in {name} cannot act"):
            check_acts(policy)
        return policy


class GeneratedPolicy(PicklefreePolicy):
    """One generated policy without its generator: a plain deterministic MLP with its observation normalization.

    It works wherever SB3 takes a policy: ``predict``, ``evaluate_policy``, ``save`` / ``load``. ``forward`` is plain
    PyTorch, so it can be traced and exported.

    :param observation_space: flat Box.
    :param action_space: Box with finite bounds, or Discrete.
    :param net_arch: hidden layers of the policy.
    :param activation_fn: class of the activation between the policy's layers.
    :param command: the return, in return units, for which the policy was generated.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Box | spaces.Discrete,
        net_arch: Sequence[int],
        activation_fn: type[nn.Module] = nn.Tanh,
        command: float = float("nan"),
    ) -> None:
        super().__init__(observation_space, action_space, squash_output=isinstance(action_space, spaces.Box))
        self.net_arch, self.activation_fn, self.command = list(net_arch), activation_fn, command
        self.action_map = ActionMap(action_space)
        self.normalizer = ObservationNormalizer(observation_space.shape[0], dtype_of(observation_space))
        sizes = [observation_space.shape[0], *net_arch, self.action_map.n_outputs]
        modules: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            modules += [nn.Linear(n_in, n_out), activation_fn()]
        self.mlp = nn.Sequential(*modules[:-1])

    def forward(self, observations: th.Tensor, deterministic: bool = True) -> th.Tensor:
        """(n, n_obs) raw observations -> (n, n_actions) actions in [-1, 1] (Box), or (n,) choices (Discrete)."""
        outputs = self.mlp(self.normalizer(observations))
        return self.action_map.choose(outputs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        inherited = super()._get_constructor_parameters()
        del inherited["optimizer_class"], inherited["optimizer_kwargs"]  # it is not trained
        return {**inherited, "command": self.command}


class GeneratorPolicy(PicklefreePolicy):
    """A generator with all it needs to act: command, command scaling and observation normalization.

    ``predict`` acts as the noise-free policy of :attr:`command`.

    :param observation_space: flat Box.
    :param action_space: Box with finite bounds, or Discrete.
    :param lr_schedule: unused here. Policies with optimizers begin at its first value.
    :param net_arch: hidden layers of the generated policies; any widths.
    :param activation_fn: class of the activation between the layers of the generated policies. It has no parameters.
    :param tile_size: number of units of a hidden layer that one generated tile covers.
    :param generator_net_arch: hidden layers of the generator's tile networks.
    :param embedding_dim: size of each tile's embedding.
    :param output_scale: generated values are multiplied by ``output_scale / sqrt(n_in)``, n_in being the inputs of the
        layer; None: they are not scaled.
    :param average_tile_biases: how biases are generated. True: the mean over the tiles of a row, as in the original code;
        False: one tile a row, at a fraction of the cost.
    :param weight_bound: no generated weight is larger than ``weight_bound / sqrt(n_in)``, n_in being the inputs of the
        layer; None: no bound.
    :param optimizer_class: class of all optimizers of the policy.
    :param optimizer_kwargs: arguments of the optimizers, without ``lr``; None: none.
    :raises ValueError: for sizes that are not positive integers or an ``activation_fn`` that is no module class.
    """

    observation_space: spaces.Box
    action_space: spaces.Box | spaces.Discrete
    #: attributes that hold optimizers, saved with the model
    optimizer_names: tuple[str, ...] = ()

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Box | spaces.Discrete,
        lr_schedule: Any = None,
        net_arch: Sequence[int] = (64, 64),
        activation_fn: type[nn.Module] = nn.Tanh,
        tile_size: int = 16,
        generator_net_arch: Sequence[int] = (64, 64),
        embedding_dim: int = 8,
        output_scale: float | None = 2.0,
        average_tile_biases: bool = False,
        weight_bound: float | None = None,
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
        check_sizes("net_arch", net_arch)
        check_sizes("generator_net_arch", generator_net_arch, allow_empty=False)
        check_number("tile_size", tile_size, minimum=1, integer=True)
        check_number("embedding_dim", embedding_dim, minimum=1, integer=True)
        check_activation("activation_fn", activation_fn)
        if output_scale is not None:
            check_number("output_scale", output_scale, minimum=0, exclusive=True)
        if weight_bound is not None:
            check_number("weight_bound", weight_bound, minimum=0, exclusive=True)
        self.net_arch, self.activation_fn = list(net_arch), activation_fn
        self.activation: nn.Module = activation_fn()
        self.action_map = ActionMap(action_space)
        self.layout = WeightLayout((observation_space.shape[0], *net_arch, self.action_map.n_outputs))
        generator_kwargs: dict[str, Any] = dict(
            tile_size=tile_size,
            embedding_dim=embedding_dim,
            output_scale=output_scale,
            average_tile_biases=average_tile_biases,
            weight_bound=weight_bound,
        )
        self.generator = Generator(self.layout, hidden_sizes=generator_net_arch, **generator_kwargs)
        self.generator_kwargs = dict(generator_net_arch=list(generator_net_arch), **generator_kwargs)
        self.normalizer = ObservationNormalizer(observation_space.shape[0], dtype_of(observation_space))
        self.command_scaler = ReturnScaler()
        self.calibration = Calibration()
        self._command: th.Tensor
        self.register_buffer("_command", th.zeros((), dtype=th.float64))
        self._acting_layers: list[Layer] | None = None

    @property
    def command(self) -> float:
        """The return, in return units, that ``predict`` aims at."""
        return float(self._command)

    @command.setter
    def command(self, value: float) -> None:
        self._command.fill_(check_command(value))
        self.forget_acting_weights()

    def generate_layers(self, commands: th.Tensor) -> list[Layer]:
        """(n_commands,) commands in return units -> layers of their policies; differentiable."""
        return self.generator.generate_layers(self.command_scaler(commands))

    @th.no_grad()
    def generate_weights(self, commands: np.ndarray | Sequence[float]) -> th.Tensor:
        """(n_commands,) commands in return units -> (n_commands, n_weights) flat policy weights, without noise."""
        return self.layout.join(self.generate_layers(th.as_tensor(np.asarray(commands, dtype=np.float64), device=self.device)))

    @th.no_grad()
    def generate_calibrated(self, commands: np.ndarray | Sequence[float]) -> th.Tensor:
        """As :meth:`generate_weights`, for the commands that earn the returns asked for, as far as that is known."""
        asked = th.as_tensor(np.asarray(commands, dtype=np.float64), device=self.device)
        return self.layout.join(self.generate_layers(self.calibration(asked)))

    def generate_policy(self, command: float) -> GeneratedPolicy:
        """The policy of one command, calibrated, on its own.

        :raises ValueError: if ``command`` is not finite.
        """
        command = check_command(command)
        policy = GeneratedPolicy(
            observation_space=self.observation_space,
            action_space=self.action_space,
            net_arch=self.net_arch,
            activation_fn=self.activation_fn,
            command=command,
        ).to(self.device)
        layers = self.layout.split(self.generate_calibrated([command]))
        linears = [module for module in policy.mlp if isinstance(module, nn.Linear)]
        with th.no_grad():
            for linear, layer in zip(linears, layers, strict=True):
                linear.weight.copy_(layer.weight[0])
                linear.bias.copy_(layer.bias[0])
        policy.normalizer.load_state_dict(self.normalizer.state_dict())
        policy.set_training_mode(False)
        return policy

    def forget_acting_weights(self) -> None:
        """Let ``predict`` generate new weights. Called when the generator, the scaling or the command has changed."""
        self._acting_layers = None

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self.forget_acting_weights()  # what ``to`` calls: they would stay on the old device
        return super()._apply(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As torch's; ``predict`` uses the new parameters at once."""
        self.forget_acting_weights()
        loaded = super().load_state_dict(*args, **kwargs)
        self.calibration.check()
        return loaded

    def forward(self, observations: th.Tensor, deterministic: bool = True) -> th.Tensor:
        """(n, n_obs) raw observations -> actions of the command's policy: (n, n_actions) in [-1, 1], or (n,) choices."""
        layers = self._acting_layers
        if layers is None:
            layers = self.layout.split(self.layout.join(self.generate_layers(self.calibration(self._command.reshape(1)))))
            if not (th.jit.is_tracing() or th.compiler.is_compiling()):  # a graph must not depend on what was called before
                layers = [Layer(*(part.detach() for part in layer)) for layer in layers]
                self._acting_layers = layers
        outputs = forward_policies(layers, self.normalizer(observations), self.activation)
        return self.action_map.choose(outputs.squeeze(0))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.generator_kwargs}


def check_activation(name: str, value: Any) -> None:
    """Raise unless ``value`` is a module class without parameters: only weights and biases are generated."""
    if not (isinstance(value, type) and issubclass(value, nn.Module)):
        raise ValueError(f"{name} must be a torch.nn.Module class such as torch.nn.Tanh, got {value!r}")
    try:
        state = value().state_dict()
    except TypeError as error:
        raise ValueError(f"{name} must be a torch.nn.Module class that needs no arguments, got {value!r}: {error}") from error
    if state:
        raise ValueError(f"{name} must be a torch.nn.Module class without parameters, got {value!r} with {', '.join(state)}")


def check_command(command: float) -> float:
    """``command`` as a float.

    :raises ValueError: if it is no finite number.
    """
    try:
        value = float(command)
    except (TypeError, ValueError, OverflowError):
        value = float("nan")
    if not np.isfinite(value):
        raise ValueError(f"command must be a finite number (a return), got {command!r}")
    return value
