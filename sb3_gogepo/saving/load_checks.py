"""Does a file's content work? Checked before memory is claimed for it, and before a model takes it over."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from sb3_gogepo.checks import is_finite
from sb3_gogepo.saving.archive import UnsavedValue
from sb3_gogepo.saving.untrusted import InvalidFileError, check_finite, tensors_in

#: Numbers a generated policy of a file may have; a policy of two layers of 4096 units has a fifth of that.
MAX_WEIGHTS = 10**8
#: Entries that the replay buffer of a file may have. ``load(path, buffer_size=...)`` is not limited.
MAX_BUFFER_SIZE = 10**7
#: Constructor arguments that a file does not set.
NOT_FROM_FILES = {"policy", "env", "device", "_init_setup_model"}


def check_policy_fits(policy_class: type, arguments: Mapping[str, Any], state_dict: Any, name: str) -> None:
    """Compare a policy's shapes with those in its file before it is made: settings may ask for petabytes.

    The shapes are found on torch's meta device, which has no memory.

    :param name: what to call the file in errors.
    :raises InvalidFileError: if a tensor is missing, has another shape or dtype, or is not finite.
    """
    if not (isinstance(state_dict, Mapping) and all(isinstance(value, th.Tensor) for value in state_dict.values())):
        raise InvalidFileError(f"the networks in {name} do not fit its settings: they are no dict of tensors")
    for argument, value in arguments.items():
        if isinstance(value, (list, tuple)) and len(value) > max(len(state_dict), 2):
            raise InvalidFileError(f"the networks in {name} do not fit its settings: {argument} has {len(value)} layers")
    without_optimizers = {**arguments, "optimizer_class": th.optim.SGD, "optimizer_kwargs": None}
    known = inspect.signature(policy_class).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    try:
        with th.device("meta"):
            skeleton = policy_class(**{key: value for key, value in without_optimizers.items() if takes_all or key in known})
        expected = {key: (tuple(value.shape), value.dtype) for key, value in skeleton.state_dict().items()}
    except Exception as error:  # whatever wrong values lead to
        raise InvalidFileError(f"the networks in {name} do not fit its settings: {error}") from error
    if hasattr(skeleton, "layout") and skeleton.layout.n_weights > MAX_WEIGHTS:
        raise InvalidFileError(f"{name} asks for policies of {skeleton.layout.n_weights} weights: at most {MAX_WEIGHTS}")
    got = {str(key): (tuple(value.shape), value.dtype) for key, value in state_dict.items()}
    if got != expected:
        wrong = next(key for key in (*expected, *got) if expected.get(key) != got.get(key))
        raise InvalidFileError(
            f"the networks in {name} do not fit its settings: "
            f"'{wrong[:80]}' must be {_describe(expected.get(wrong))}, got {_describe(got.get(wrong))}"
        )
    check_finite(state_dict, name)


def _describe(shape_and_dtype: tuple[tuple[int, ...], th.dtype] | None) -> str:
    return "absent" if shape_and_dtype is None else f"{shape_and_dtype[1]} of shape {shape_and_dtype[0]}"


def constructor_arguments(algorithm: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are constructor arguments, so that the constructor checks them; without those not in the file."""
    names = inspect.signature(algorithm).parameters.keys() - NOT_FROM_FILES
    return {name: value for name, value in settings.items() if name in names and not isinstance(value, UnsavedValue)}


def check_settings(model: BaseAlgorithm, settings: Mapping[str, Any], name: str) -> None:
    """Compare a file's settings with the attributes of a new model: methods must stay methods, and numbers numbers.

    :raises InvalidFileError: naming the setting.
    """
    excluded = BaseAlgorithm._excluded_save_params(model)
    for key, value in settings.items():
        if key in excluded or hasattr(type(model), key):
            raise InvalidFileError(f"{name} holds '{key[:80]}', which is no setting")
        if isinstance(value, type) and key != "policy_class":
            raise InvalidFileError(f"{name} holds the class {value.__name__} as {key[:80]}")
        if not _is_alike(vars(model).get(key), value):
            raise InvalidFileError(f"{name} holds {str(value)[:80]!r} as {key[:80]}")
    for key in ("best_return", "worst_return"):
        if settings.get(key) is not None and not _is_alike(0.0, settings[key]):
            raise InvalidFileError(f"{name} holds {str(settings[key])[:80]!r} as {key}")
    if settings.get("buffer_size", 1) > MAX_BUFFER_SIZE:
        raise InvalidFileError(f"{name} asks for a buffer of {settings['buffer_size']} entries: at most {MAX_BUFFER_SIZE}")


def _is_alike(own: Any, value: Any) -> bool:
    """Is ``value`` of the kind of a new model's ``own`` one? Where that is None or an object, anything may follow."""
    if isinstance(own, bool):
        return isinstance(value, bool)
    if isinstance(own, (int, float)):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return (is_number and is_finite(value)) or isinstance(value, UnsavedValue) or callable(value) or value is None
    return True


def check_optimizer(optimizer: th.optim.Optimizer, fresh_groups: list[dict[str, Any]], name: str) -> None:
    """Compare an optimizer that was just loaded with its parameters, and its settings with those of a new one.

    :raises InvalidFileError: if the sizes or the kinds of values differ, or something is not finite.
    """
    for parameter, state in optimizer.state.items():
        for tensor in tensors_in(state):
            if tensor.numel() > 1 and tensor.shape != parameter.shape:
                raise InvalidFileError(f"an optimizer in {name} does not fit its network")
        check_finite(state, f"an optimizer in {name}")
    for group, fresh in zip(optimizer.param_groups, fresh_groups, strict=True):
        kinds = [{key: type(value) for key, value in options.items() if key != "params"} for options in (group, fresh)]
        if kinds[0] != kinds[1] or not _is_alike(0.0, group["lr"]):
            raise InvalidFileError(f"an optimizer in {name} has settings of the wrong kind")


def check_acts(policy: BasePolicy, name: str) -> None:
    """Act once, on zeros: huge weights, negative variances and modules that are no activation show then.

    :raises InvalidFileError: if that fails, or the action is not finite.
    """
    space = policy.observation_space
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    zeros = {key: np.zeros(part.shape or (), part.dtype) for key, part in parts.items()}
    try:
        action, _ = policy.predict(zeros if isinstance(space, spaces.Dict) else zeros[""], deterministic=True)
    except Exception as error:  # whatever wrong values lead to
        raise InvalidFileError(f"the policy in {name} cannot act: {error}") from error
    if not np.isfinite(action).all():
        raise InvalidFileError(f"the policy in {name} acts with numbers that are not finite")


def withholds_rollout_kwargs(settings: Mapping[str, Any], trust: bool) -> bool:
    """Must the user pass ``rollout_kwargs`` anew? Whoever says how to start Ray, or where it is, can run any code."""
    kwargs = settings.get("rollout_kwargs")
    if isinstance(kwargs, dict):
        return not trust and "ray_init_kwargs" in kwargs
    return isinstance(kwargs, UnsavedValue)  # of a model that was itself loaded without them
