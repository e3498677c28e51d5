"""From (track, label, env) to an algorithm of RL Zoo and its hyperparameters, which two YAML files beside this one list."""

from __future__ import annotations

import argparse
import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.run.layout import Cell
from sb3_gogepo import presets
from sb3_gogepo.envs import LEGACY_IDS
from sb3_gogepo.zoo import ALGORITHMS as OWN_ALGORITHMS
from sb3_gogepo.zoo import preset_path

FOLDER = Path(__file__).parent
#: The track of GoGePo's variants and their bases, which are those of the track "paper" at another number of env steps
ABLATIONS = "ablations"


class Algorithm(NamedTuple):
    """``algo`` is RL Zoo's name; ``hyperparams`` is one entry of an RL Zoo file."""

    algo: str
    hyperparams: dict[str, Any]


@cache
def tracks() -> dict[str, dict[str, dict[str, Any]]]:
    """track -> label -> entry, without ablations."""
    content: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((FOLDER / "algorithms.yml").read_text())
    return content


@cache
def ablations() -> dict[str, dict[str, Any]]:
    """name -> question, bases and variants."""
    content: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "ablations.yml").read_text())
    return content


def labels(track: str) -> list[str]:
    """The labels of a track, in the files' order; of ablations, the bases first.

    :raises ValueError: if there is no such track.
    """
    if track == ABLATIONS:
        bases = [label for ablation in ablations().values() for label in ablation["bases"]]
        return [*dict.fromkeys(bases), *_variants()]
    if track not in tracks():
        raise ValueError(f"track must be one of {', '.join(tracks())}, {ABLATIONS}, got {track!r}")
    return list(tracks()[track])


def _variants() -> dict[str, dict[str, Any]]:
    """label -> entry of all ablations."""
    return {label: entry for ablation in ablations().values() for label, entry in ablation["variants"].items()}


def _find(track: str, label: str) -> list[dict[str, Any]]:
    """The entries that make a label up, base first."""
    if track != ABLATIONS:
        return [tracks()[track][label]]
    variant = _variants().get(label)
    return _find("paper", label) if variant is None else [*_find("paper", variant["base"]), variant]


def resolve(track: str, label: str, env_id: str) -> Algorithm:
    """The algorithm and all hyperparameters that are not defaults of its class.

    :raises ValueError: for an unknown track or label, or an env without tuned hyperparameters or a known range of returns.
    """
    if label not in labels(track):
        raise ValueError(f"algo must be one of {', '.join(labels(track))} on track {track!r}, got {label!r}")
    entry, *variant = _find(track, label)
    algo = entry["algo"]
    hyperparams: dict[str, Any] = {}
    if entry.get("from_rl_zoo"):
        hyperparams = _tuned_by_rl_zoo(algo, env_id)
        if algo == "ars":
            hyperparams["n_envs"] = 1  # more of them are processes, and a cell is one process
    elif algo in OWN_ALGORITHMS:
        preset = yaml.safe_load(preset_path(algo).read_text())
        hyperparams = dict(preset.get(env_id, preset["default"]))
    of_envs, env_name = entry.get("envs", {}), env_id.rsplit("-v", 1)[0]
    parts = []
    if "preset" in entry:
        if env_name not in of_envs:
            raise ValueError(f"env must be one of {', '.join(of_envs)}, whose return_range {label!r} knows, got {env_id!r}")
        parts.append(getattr(presets, entry["preset"]))
    parts += [entry.get("hyperparams", {}), of_envs.get(env_name, {})]
    for part in [*parts, *(changed["hyperparams"] for changed in variant)]:
        if "policy_kwargs" in part:
            part = {**part, "policy_kwargs": {**hyperparams.get("policy_kwargs", {}), **part["policy_kwargs"]}}
        hyperparams.update(part)
    hyperparams.pop("n_timesteps", None)  # the runner's to choose
    return Algorithm(algo, hyperparams)


def settings_of(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """What makes a cell's run the one it is, as its manifest has it."""
    algorithm = resolve(cell.track, cell.algo, cell.env)
    return dict(
        n_timesteps=options.n_timesteps,
        eval_freq=options.eval_freq,
        rl_zoo_algo=algorithm.algo,
        hyperparams=algorithm.hyperparams,
        defaults=defaults_of(algorithm.algo),
    )


def defaults_of(algo: str) -> dict[str, Any]:
    """Defaults of an algorithm of this package and of its policy, which may change; empty for others, whose version tells."""
    if algo not in OWN_ALGORITHMS:
        return {}
    kind: Any = OWN_ALGORITHMS[algo].algorithm
    (policy_kind,) = kind.policy_aliases.values()
    return {**_class_defaults(kind), "policy_kwargs": _class_defaults(policy_kind)}


def _class_defaults(kind: type) -> dict[str, Any]:
    """Argument -> default, of a class and its bases in this package; as JSON, or as text."""
    own = [base for base in reversed(kind.__mro__) if base.__module__.startswith("sb3_gogepo.") and "__init__" in vars(base)]
    given = [parameter for base in own for parameter in inspect.signature(base).parameters.values()]
    defaults = {parameter.name: parameter.default for parameter in given if parameter.default is not parameter.empty}
    result: dict[str, Any] = json.loads(json.dumps(defaults, default=str))
    return result


def differing(known: dict[str, Any], settings: dict[str, Any]) -> str:
    """In which settings a manifest differs, in words; empty if in none. The first manifests have no ``defaults``."""
    wanted = json.loads(json.dumps(settings))  # tuples are lists in a file
    known = {"defaults": wanted["defaults"], **known}
    parts = []
    for name, value in wanted.items():
        if name == "defaults":  # many: only those that differ
            names = sorted(key for key in {*known[name], *value} if known[name].get(key) != value.get(key))
            parts += [f"default of {key} {known[name].get(key)}, not {value.get(key)}" for key in names]
        elif known.get(name) != value:
            parts.append(f"{name} {known.get(name)}, not {value}")
    return ", ".join(parts)


def _tuned_by_rl_zoo(algo: str, env_id: str) -> dict[str, Any]:
    """RL Zoo's entry for the env, or for the id whose dynamics and rewards it has."""
    import rl_zoo3

    content = yaml.safe_load((Path(rl_zoo3.__file__).parent / "hyperparams" / f"{algo}.yml").read_text())
    for name in (env_id, LEGACY_IDS.get(env_id)):
        if name in content:
            return dict(content[name])
    raise ValueError(f"env must be one that RL Zoo has tuned {algo} for, got {env_id!r}: use the track 'paper'")
