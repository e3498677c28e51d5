"""Does a file's content work? Checked before memory is claimed for it, and before a model takes it over.

What these functions raise becomes an InvalidFileError where they are called, under
:func:`~sb3_gogepo.saving.untrusted.refusing`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium.vector.utils import create_empty_array
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from sb3_gogepo.checks import is_finite
from sb3_gogepo.saving.archive import UnsavedValue

#: Numbers a generated policy of a file may have; a policy of two layers of 4096 units has a fifth of that.
MAX_WEIGHTS = 10**8
#: Entries that the replay buffer of a file may have. ``load(path, buffer_size=...)`` is not limited.
MAX_BUFFER_SIZE = 10**7
#: Constructor arguments that a file does not set.
NOT_FROM_FILES = {"policy", "env", "device", "_init_setup_model"}
#: What torch's optimizers keep one number of for each parameter. All else has the parameter's shape.
SCALAR_STATE = {"step", "mu_product", "eta", "mu"}

#: Numbers that are known after the first episode
NONE_IN_A_NEW_MODEL = ("best_return", "best_episode_return", "worst_return", "lowest_command", "highest_command")


def check_policy_fits(policy_class: type, arguments: Mapping[str, Any], state_dict: Mapping[str, Any]) -> None:
    """Load a file's networks into a policy without memory, before the real one is made: settings may ask for petabytes.

    The policy is made on torch's meta device, then takes over the file's own tensors.

    :param arguments: the policy's constructor arguments.
    :raises Exception: if the policy cannot be made of them, or its tensors have other names or shapes.
    """
    for argument, value in arguments.items():
        if isinstance(value, (list, tuple)) and len(value) > max(len(state_dict), 2):
            raise ValueError(f"{argument} has {len(value)} layers")
    optimizer: dict[str, Any] = {}
    if hasattr(policy_class, "optimizer_names"):  # Adam's fused kernel would ask for real tensors
        optimizer = {"optimizer_class": th.optim.SGD, "optimizer_kwargs": None}
    with th.device("meta"):
        skeleton = policy_class(**{**arguments, **optimizer})
    if hasattr(skeleton, "layout") and skeleton.layout.n_weights > MAX_WEIGHTS:
        raise ValueError(f"it asks for policies of {skeleton.layout.n_weights} weights: at most {MAX_WEIGHTS}")
    skeleton.load_state_dict(state_dict, assign=True)


def constructor_arguments(algorithm: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are constructor arguments, so that the constructor checks them; without those not in the file."""
    names = inspect.signature(algorithm).parameters.keys() - NOT_FROM_FILES
    return {name: value for name, value in settings.items() if name in names and not isinstance(value, UnsavedValue)}


def check_settings(model: BaseAlgorithm, settings: Mapping[str, Any]) -> None:
    """Compare a file's settings with the attributes of a new model: methods must stay methods, and numbers numbers.

    :raises ValueError: naming the setting.
    """
    excluded = BaseAlgorithm._excluded_save_params(model)
    for key, value in settings.items():
        if key in excluded or hasattr(type(model), key):
            raise ValueError(f"it holds '{key[:80]}', which is no setting")
        if isinstance(value, type) and key != "policy_class":
            raise ValueError(f"it holds the class {value.__name__} as {key[:80]}")
        own = 0.0 if key in NONE_IN_A_NEW_MODEL else vars(model).get(key)
        if not _is_alike(own, value):
            raise ValueError(f"it holds {str(value)[:80]!r} as {key[:80]}")
    if settings.get("buffer_size", 1) > MAX_BUFFER_SIZE:
        raise ValueError(f"it asks for a buffer of {settings['buffer_size']} entries: at most {MAX_BUFFER_SIZE}")


def _is_alike(own: Any, value: Any) -> bool:
    """Is ``value`` of the kind of a new model's ``own`` one? Where that is None or an object, anything may follow."""
    if isinstance(own, bool):
        return isinstance(value, bool)
    if isinstance(own, (int, float)):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return (is_number and is_finite(value)) or isinstance(value, UnsavedValue) or callable(value) or value is None
    return True


def check_optimizer(optimizer: th.optim.Optimizer) -> None:
    """Compare the state of an optimizer that was just loaded with its parameters: Adam's fused kernel would not.

    :raises ValueError: if a tensor has another shape than its parameter.
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            expected = () if key in SCALAR_STATE else parameter.shape
            if isinstance(value, th.Tensor) and value.shape != expected:
                raise ValueError(f"'{key[:80]}' of an optimizer must have shape {tuple(expected)}, got {tuple(value.shape)}")


def check_acts(policy: BasePolicy) -> None:
    """Act once, on zeros: huge weights, negative variances and modules that are no activation show then.

    :raises Exception: if that fails, or the action is not finite.
    """
    zeros: Any = create_empty_array(policy.observation_space, n=1, fn=np.zeros)
    action, _ = policy.predict(zeros, deterministic=True)
    if not np.isfinite(action).all():
        raise ValueError("it acts with numbers that are not finite")
