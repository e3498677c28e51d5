"""What RL Zoo needs to know about each algorithm, and the three modules of ``rl_zoo3`` that are extended with it."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_gogepo.gogepo import GoGePo
from sb3_gogepo.gpim import GPIM
from sb3_gogepo.udrl import UDRL
from sb3_gogepo.udrlpg import UDRLPG
from sb3_gogepo.zoo.continuing import learn_on, load_all
from sb3_gogepo.zoo.samplers import (
    convert_gogepo_params,
    convert_gpim_params,
    convert_udrl_params,
    convert_udrlpg_params,
    sample_gogepo_params,
    sample_gpim_params,
    sample_udrl_params,
    sample_udrlpg_params,
)


class ZooAlgorithm(NamedTuple):
    """An algorithm as RL Zoo sees it; its preset is ``presets/<name>.yml``.

    :param algorithm: class of the algorithm.
    :param sample: the Optuna search space: ``(trial, n_actions, n_envs, additional_args)`` -> constructor arguments.
    :param convert: parameters that a trial has stored -> constructor arguments.
    """

    algorithm: type[BaseAlgorithm]
    sample: Callable[[Any, int, int, dict[str, Any]], dict[str, Any]]
    convert: Callable[[dict[str, Any]], dict[str, Any]]


#: name after ``--algo`` -> what RL Zoo needs; one line an algorithm
ALGORITHMS = {
    "gogepo": ZooAlgorithm(GoGePo, sample_gogepo_params, convert_gogepo_params),
    "gpim": ZooAlgorithm(GPIM, sample_gpim_params, convert_gpim_params),
    "udrl": ZooAlgorithm(UDRL, sample_udrl_params, convert_udrl_params),
    "udrlpg": ZooAlgorithm(UDRLPG, sample_udrlpg_params, convert_udrlpg_params),
}


def preset_path(name: str) -> Path:
    """The YAML file with the hyperparameters of algorithm ``name``, one entry an env id.

    :raises ValueError: if there is no such algorithm.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"name must be one of {', '.join(ALGORITHMS)}, got {name!r}")
    return Path(__file__).parent / "presets" / f"{name}.yml"


def register() -> None:
    """Import RL Zoo and add this package's algorithms to it. Calling it again changes nothing.

    :raises ImportError: if RL Zoo is not installed.
    """
    for name in _EXTENSIONS:
        extend(importlib.import_module(name))


def extend(module: ModuleType) -> None:
    """Add this package's algorithms to one imported module of RL Zoo; entries that exist already are left alone."""
    _EXTENSIONS[module.__name__](module)


def _add_algorithms(utils: ModuleType) -> None:
    for name, entry in ALGORITHMS.items():
        utils.ALGOS.setdefault(name, entry.algorithm)


def _add_search_spaces(hyperparams_opt: ModuleType) -> None:
    for name, entry in ALGORITHMS.items():
        hyperparams_opt.HYPERPARAMS_SAMPLER.setdefault(name, entry.sample)
        hyperparams_opt.HYPERPARAMS_CONVERTER.setdefault(name, entry.convert)


def _extend_manager(exp_manager: ModuleType) -> None:
    """Let RL Zoo find this package's presets, and resume exactly with ``-i``."""
    manager = exp_manager.ExperimentManager
    if hasattr(manager.__init__, "__wrapped__"):
        return
    manager.__init__ = _find_presets(manager.__init__)
    manager._load_pretrained_agent = load_all(manager._load_pretrained_agent)
    manager.learn = learn_on(manager.learn)


def _find_presets(original: Callable[..., None]) -> Callable[..., None]:
    """``ExperimentManager.__init__``, which without ``--conf-file`` also finds the presets in this package."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        config_given = signature.bind(self, *args, **kwargs).arguments.get("config")
        if not config_given and self.algo in ALGORITHMS and not Path(self.config).exists():
            self.config = str(preset_path(self.algo))

    return init


#: module of RL Zoo -> what is added to it
_EXTENSIONS: dict[str, Callable[[ModuleType], None]] = {
    "rl_zoo3.utils": _add_algorithms,
    "rl_zoo3.hyperparams_opt": _add_search_spaces,
    "rl_zoo3.exp_manager": _extend_manager,
}
