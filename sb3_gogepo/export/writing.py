"""export_model: write a policy, or the whole generator, as ONNX or as a torch.export program, and check what was written."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sb3_gogepo._version import __version__
from sb3_gogepo.export.graphs import GeneratorGraph, PolicyGraph
from sb3_gogepo.networks.policies import GeneratedPolicy, check_command
from sb3_gogepo.saving.atomic_files import write_atomically

#: (n, n_obs) float32 observations, and (n,) float32 commands where the whole generator was exported -> actions
Acting = Callable[..., np.ndarray]

#: How far actions may differ from those of ``predict``, as a share of half the range of an action, or of 1 if that is more.
TOLERANCE = 1e-5
#: Logits nearer to each other than this count as equal: either choice is right.
EQUAL_LOGITS = 1e-4
METADATA_FILE = "metadata.json"
OPSET = 20


def export_model(model: Any, path: str | os.PathLike[str], command: float | None = None) -> Path:
    """Write what ``predict(deterministic=True)`` does, for one command or for any, to a file without this package.

    Observation statistics, calibration, activation, action bounds and argmax are included. Inputs are ``observation``, (n,
    n_obs) raw float32 observations, and with ``command=None`` also ``command``, (n,) float32 returns, one a row. The output
    ``action`` is what the env takes. n is any number of rows.

    The file is checked against the model's own actions before it is written (ONNX: if onnxruntime is installed).

    :param model: GoGePo or UDRLPG that has been trained.
    :param path: ``.onnx``, which is also added to a path without suffix, or ``.pt2`` for ``torch.export.load``.
    :param command: the return, in return units, whose policy is written; None: the whole generator, a policy with a knob.
    :return: the file.
    :raises ValueError: naming the argument: for another suffix, a command that is not finite, or an action space or
        activation function that such files cannot hold. Nothing is written then.
    :raises ImportError: if ONNX is asked for without the extra ``export``.
    """
    target = Path(path)
    if target.suffix == "":
        target = target.with_name(target.name + ".onnx")
    if target.suffix not in _FORMATS:
        raise ValueError(f"path must end in {' or '.join(_FORMATS)}, got '{path}'")
    if command is None:
        graph: PolicyGraph | GeneratorGraph = GeneratorGraph(model.policy)
    else:
        graph = PolicyGraph(model.policy.generate_policy(check_command(command)))
    graph.eval().requires_grad_(False)
    metadata = describe(model, command)
    content, acting = _FORMATS[target.suffix](graph, metadata)
    if acting is not None:
        check_actions(model, command, acting)
    write_atomically(target, content, target.suffix)
    return target


def describe(model: Any, command: float | None) -> dict[str, str]:
    """What a file says of itself: key -> text, numbers and lists as JSON."""
    low, high = model.command_range
    offset = model.alive_bonus_offset
    unit = "return: the sum of an episode's rewards" + (f", with {offset:g} added to each" if offset else "")
    described = {
        "algorithm": type(model).__name__,
        "num_timesteps": json.dumps(model.num_timesteps),
        "command_range": json.dumps([low, high]),
        "command_unit": unit,
        "alive_bonus_offset": json.dumps(offset),
        "is_calibrated": json.dumps(bool(model.policy.calibration.is_on)),
        "observation_space": str(model.observation_space),
        "action_space": str(model.action_space),
        "sb3_gogepo_version": __version__,
    }
    return described if command is None else {**described, "command": json.dumps(float(command))}


# ------------------------------------------------------------------ formats


def _example(graph: PolicyGraph | GeneratorGraph) -> tuple[tuple[th.Tensor, ...], dict[str, Any]]:
    """Inputs of two rows, and which of their sizes are free."""
    n_obs = graph.standardize.divisor.shape[0]
    n_rows = th.export.Dim("n")
    inputs = {"observation": th.zeros(2, n_obs), "command": th.zeros(2)}
    return tuple(inputs[name] for name in graph.input_names), {name: {0: n_rows} for name in graph.input_names}


def _to_onnx(graph: PolicyGraph | GeneratorGraph, metadata: dict[str, str]) -> tuple[bytes, Acting | None]:
    """The bytes of an ONNX file, and what runs it; None without onnxruntime."""
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript")):
        raise ImportError('export to ONNX needs onnx and onnxscript: pip install "sb3-gogepo[export]"')
    example, dynamic_shapes = _example(graph)
    with _exporting("ONNX", graph):
        program = th.onnx.export(
            graph,
            example,
            dynamo=True,
            dynamic_shapes=dynamic_shapes,
            input_names=graph.input_names,
            output_names=["action"],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    content = program.model_proto
    for node in [*content.graph.node, *(node for function in content.functions for node in function.node)]:
        del node.metadata_props[:]  # stack traces with the paths of this machine
    for key, value in metadata.items():
        content.metadata_props.add(key=key, value=value)
    serialized = content.SerializeToString()
    return serialized, _run_onnx(serialized)


def _run_onnx(content: bytes) -> Acting | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return lambda *inputs: session.run(["action"], dict(zip(names, inputs, strict=True)))[0]


def _to_torch(graph: PolicyGraph | GeneratorGraph, metadata: dict[str, str]) -> tuple[bytes, Acting]:
    """The bytes of a torch.export file, and what runs it."""
    example, dynamic_shapes = _example(graph)
    with _exporting("torch.export", graph):
        program = th.export.export(graph, example, dynamic_shapes=dynamic_shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # with the paths of this machine
    file = io.BytesIO()
    th.export.save(program, file, extra_files={METADATA_FILE: json.dumps(metadata)})
    module = th.export.load(io.BytesIO(file.getvalue())).module()
    return file.getvalue(), lambda *inputs: module(*map(th.from_numpy, inputs)).numpy()


@contextmanager
def _exporting(format_name: str, graph: PolicyGraph | GeneratorGraph) -> Iterator[None]:
    """Quietly; whatever an exporter raises becomes one ValueError.

    It names the activation function: all else in a graph is this package's own, and known to work.
    """
    activation = graph.activation if isinstance(graph, GeneratorGraph) else _activation_of(graph)
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # else it lists operators of packages that are not installed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's, about itself
            yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"policy_kwargs['activation_fn'] = {type(activation).__name__} cannot be exported to {format_name}: {reason}"
        ) from error
    finally:
        exporter.setLevel(level)


def _activation_of(graph: PolicyGraph) -> th.nn.Module:
    return next((module for module in graph.mlp if not isinstance(module, th.nn.Linear)), th.nn.Identity())


_FORMATS: dict[str, Callable[[Any, dict[str, str]], tuple[bytes, Acting | None]]] = {".onnx": _to_onnx, ".pt2": _to_torch}


# ------------------------------------------------------------------ check


def check_actions(model: Any, command: float | None, acting: Acting, n_rows: int = 64, seed: int = 0) -> None:
    """Compare with ``predict`` on random observations, in one batch and one by one, and for several commands.

    :param n_rows: observations a command.
    :param seed: of the observations.
    :raises RuntimeError: if an action differs by more than ``TOLERANCE`` allows.
    """
    normalizer, rng = model.policy.normalizer, np.random.default_rng(seed)
    mean, std = normalizer.mean.cpu().numpy(), normalizer._divisor().cpu().numpy()
    observations = (mean + std * rng.standard_normal((n_rows, len(mean)))).astype(np.float32)
    low, high = model.command_range
    commands = [low + share * (high - low) for share in (0.02, 0.35, 0.65, 0.98)] if command is None else [command]
    for asked in commands:
        rounded = np.float32(asked) if command is None else asked
        policy = model.policy.generate_policy(float(rounded))
        knob = (np.full(n_rows, rounded, np.float32),) if command is None else ()
        together = acting(observations, *knob)
        alone = acting(observations[:1], *(part[:1] for part in knob))
        expected, _ = policy.predict(observations, deterministic=True)
        for actions, wanted in ((together, expected), (alone, expected[:1])):
            error = _difference(policy, observations[: len(wanted)], actions, wanted)
            if error > TOLERANCE:
                raise RuntimeError(
                    f"the exported policy of command {asked:g} acts differently: by {error:.2g} of half the range of an "
                    f"action, where at most {TOLERANCE:g} is allowed; nothing was written"
                )


def _difference(policy: GeneratedPolicy, observations: np.ndarray, actions: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of half the range of an action; for Discrete, 1 if another one is chosen."""
    action_map = policy.action_map
    if not action_map.is_discrete:
        return float((np.abs(actions - expected) / np.maximum(action_map.half_range, 1)).max())
    with th.no_grad():
        logits = policy.mlp(policy.normalizer(policy.obs_to_tensor(observations)[0])).cpu().numpy()
    start, rows = action_map.unscale(np.zeros((1, 1)))[0], np.arange(len(actions))
    return float((np.abs(logits[rows, actions - start] - logits[rows, expected - start]) > EQUAL_LOGITS).any())
