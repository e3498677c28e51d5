"""A file does what ``predict`` does, for one command or for any, one row or many; what cannot be written is refused."""

import importlib.util
import json
import os
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_gogepo import UDRL, UDRLPG, GoGePo
from sb3_gogepo.export import writing
from sb3_gogepo.export.__main__ import main
from sb3_gogepo.export.graphs import GeneratorGraph, ScaleCommands, Standardize
from tests.conftest import SMALL
from tests.toy_envs import Seeded, Spaces

NEEDED = ("onnx", "onnxscript", "onnxruntime")
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED), reason='needs the extra "export": ' + ", ".join(NEEDED)
)
OBSERVATION_SPACE = spaces.Box(-np.inf, np.inf, (3,), np.float64)
ACTION_SPACES = {
    "box": spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32)),
    "box of float64, two axes": spaces.Box(-3.0, 7.0, (2, 2), np.float64),
    "discrete from 2": spaces.Discrete(4, start=2),
}


def trained(env, algorithm=GoGePo, calibrated=False, **overrides):
    model = algorithm("MlpPolicy", env, **{**SMALL[algorithm], **overrides}).learn(40)
    with th.no_grad():  # so that commands make a difference
        for parameter in model.policy.generator.parameters():
            parameter.mul_(1.5)
    if calibrated:
        low, high = model.command_range
        model.policy.calibration.fit(np.linspace(low, high, 5), np.array([0.0, 0.2, 0.2, 0.7, 1.0]) * (high - low) + low)
    model.policy.forget_acting_weights()
    return model


def trained_on(action_space, **kwargs):
    class Rewarded(Spaces):  # returns differ, so that there is a range of commands
        def step(self, action):
            observation, _, *others = super().step(action)
            return observation, float(np.mean(action)), *others

    return trained(Rewarded(OBSERVATION_SPACE, action_space), **kwargs)


def load(path):
    """What runs the file, whatever its format."""
    if path.suffix == ".pt2":
        module = th.export.load(path).module()
        return lambda *inputs: module(*map(th.from_numpy, inputs)).numpy()
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return lambda *inputs: session.run(["action"], dict(zip(names, inputs, strict=True)))[0]


def metadata_of(path):
    if path.suffix == ".pt2":
        content = {writing.METADATA_FILE: ""}
        th.export.load(path, extra_files=content)
        return json.loads(content[writing.METADATA_FILE])
    import onnxruntime

    return onnxruntime.InferenceSession(path.read_bytes()).get_modelmeta().custom_metadata_map


FORMATS = [pytest.param(".onnx", marks=needs_onnx), ".pt2"]


@pytest.mark.parametrize(
    ("space", "suffix"),
    [*(pytest.param(space, ".onnx", marks=needs_onnx) for space in ACTION_SPACES), ("box", ".pt2")],
)
def test_the_knob_acts_as_predict_for_each_command(space, suffix, tmp_path):
    """Each row has a command of its own; one row and many."""
    model = trained_on(ACTION_SPACES[space], calibrated=True)
    run = load(model.export(tmp_path / f"knob{suffix}"))
    low, high = model.command_range
    commands = np.linspace(low, high, 7)
    observations = np.random.default_rng(1).normal(scale=2.0, size=(7, 3)).astype(np.float32)
    actions = run(observations, commands.astype(np.float32))
    for i, command in enumerate(commands):
        model.command = command
        expected = model.predict(observations[i], deterministic=True)[0]
        alone = run(observations[i : i + 1], commands[i : i + 1].astype(np.float32))[0]
        for action in (actions[i], alone):
            assert action.shape == expected.shape
            assert model.action_space.contains(action)
            np.testing.assert_allclose(action, expected, atol=1e-5)
    assert len(np.unique(actions.reshape(7, -1), axis=0)) > 1


@pytest.mark.parametrize(
    ("algorithm", "suffix"), [pytest.param(GoGePo, ".onnx", marks=needs_onnx), (GoGePo, ".pt2"), (UDRLPG, ".pt2")]
)
def test_one_policy_acts_as_predict(algorithm, suffix, tmp_path):
    model = trained(Seeded(), algorithm, calibrated=True)
    model.command = command = float(np.mean(model.command_range))
    path = model.export(tmp_path / f"policy{suffix}", command)
    run = load(path)
    for n in (1, 5):
        observations = np.random.default_rng(n).normal(scale=3.0, size=(n, 2)).astype(np.float32)
        expected, _ = model.predict(observations, deterministic=True)
        np.testing.assert_allclose(run(observations), expected, atol=1e-5)
    assert metadata_of(path)["command"] == json.dumps(command)


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_a_file_says_of_itself(suffix, tmp_path):
    model = trained(Seeded(), alive_bonus_offset=-1.0)
    path = model.export(tmp_path / f"model{suffix}")
    metadata = metadata_of(path)
    assert json.loads(metadata["command_range"]) == list(model.command_range)
    assert metadata["command_unit"] == "return: the sum of an episode's rewards, with -1 added to each"
    assert metadata["algorithm"] == "GoGePo"
    assert metadata["is_calibrated"] == "false"
    assert "command" not in metadata
    assert str(Path(writing.__file__).parents[2]).encode() not in path.read_bytes()  # no paths of the machine
    assert os.listdir(tmp_path) == [path.name]


def test_exporting_changes_nothing(tmp_path):
    model = trained(Seeded())
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.export(tmp_path / "a.pt2")
    assert all(th.equal(value, before[name]) for name, value in model.policy.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.policy.generator.parameters())


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_large_observations_that_vary_little(dtype):
    """The difference from the mean is what counts; float32 alone would be wrong by more than a tenth of a std."""
    space = spaces.Box(-np.inf, np.inf, (2,), dtype)
    model = trained(Spaces(space, spaces.Discrete(2)))
    normalizer = model.policy.normalizer
    normalizer.mean.copy_(th.tensor([12_345.678901, 0.1], dtype=th.float64))
    normalizer.var.copy_(th.tensor([0.01, 1e-6], dtype=th.float64) ** 2)
    observations = (
        normalizer.mean + normalizer.var.sqrt() * th.randn(100, 2, generator=th.Generator().manual_seed(0))
    ).float()
    th.testing.assert_close(Standardize(normalizer)(observations), normalizer(observations), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("calibrated", [False, True])
def test_commands_are_scaled_as_in_float64(calibrated):
    policy = trained(Seeded(), calibrated=calibrated).policy
    policy.command_scaler.set(offset=1234.56789, scale=321.123456)
    if calibrated:
        achieved = np.array([0.0, 500.0, 500.1, 1700.0, 1900.0])
        policy.calibration.fit(np.linspace(0.1, 2000.3, 5), achieved)
    commands = th.linspace(-500, 2500, 1001)
    th.testing.assert_close(
        ScaleCommands(policy)(commands), policy.command_scaler(policy.calibration(commands.double())), rtol=1e-6, atol=1e-6
    )
    ends = policy.calibration.asked[[0, -1]]  # a float32 next to the best return is calibrated as that is
    th.testing.assert_close(ScaleCommands(policy)(ends.float()), policy.command_scaler(policy.calibration(ends)))


class Unexportable(nn.Module):
    def forward(self, values):
        return values.tanh() if values.sum() > 0 else values  # which of them is not known beforehand


@pytest.mark.parametrize("suffix", FORMATS)
def test_activations_that_cannot_be_exported_are_refused_by_name(suffix, tmp_path):
    policy_kwargs = {**SMALL[UDRLPG]["policy_kwargs"], "activation_fn": Unexportable}
    model = trained(Seeded(), UDRLPG, policy_kwargs=policy_kwargs)
    for command in (None, 1.0):
        with pytest.raises(ValueError, match=r"policy_kwargs\['activation_fn'\] = Unexportable cannot be exported to"):
            model.export(tmp_path / f"model{suffix}", command)
    assert not list(tmp_path.iterdir())


def test_action_spaces_that_no_file_holds_are_refused(tmp_path):
    model = trained_on(spaces.Box(-1, 1, (1,), np.longdouble))
    with pytest.raises(ValueError, match=r"action_space must be Discrete, or a Box of float16, float32, float64, for an"):
        model.export(tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_wrong_arguments(tmp_path, monkeypatch):
    model = trained(Seeded())
    with pytest.raises(ValueError, match=r"path must end in .onnx or .pt2, got '.*model.zip'"):
        model.export(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"command must be a finite number \(a return\), got nan"):
        model.export(tmp_path / "model.pt2", float("nan"))
    with pytest.raises(ValueError, match=r"command_range is known after the first episode"):
        GoGePo("MlpPolicy", Seeded(), **SMALL[GoGePo]).export(tmp_path / "model.pt2")
    monkeypatch.setattr(writing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "sb3-gogepo\[export\]"'):
        model.export(tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("space", ["box", "discrete from 2"])
def test_a_file_that_acts_differently_is_not_written(space, tmp_path, monkeypatch):
    def forward(self, observation, command):
        return 7 - original(self, observation, command)

    model = trained_on(ACTION_SPACES[space])
    original = GeneratorGraph.forward
    monkeypatch.setattr(GeneratorGraph, "forward", forward)
    with pytest.raises(RuntimeError, match=r"acts differently: by .*; nothing was written"):
        model.export(tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_command_line(tmp_path, capsys):
    model = trained(gym.make("CartPole-v1"), device="cpu")
    model.save(tmp_path / "model.zip")
    main([str(tmp_path / "model.zip"), "--out", str(tmp_path / "policy.pt2"), "--command", "12"])
    assert capsys.readouterr().out.endswith("policy.pt2: observation (n, 4) -> action, Discrete(2)\n")
    assert load(tmp_path / "policy.pt2")(np.zeros((3, 4), np.float32)).shape == (3,)
    main([str(tmp_path / "model.zip"), "--out", str(tmp_path / "knob.pt2")])
    low, high = model.command_range
    assert f"knob.pt2: observation (n, 4), command (n,) from {low:g} to {high:g} -> action" in capsys.readouterr().out


def test_command_line_errors(tmp_path, capsys):
    UDRL("MlpPolicy", "CartPole-v1", **SMALL[UDRL]).learn(20).save(tmp_path / "udrl.zip")
    trained(gym.make("CartPole-v1")).save(tmp_path / "model.zip")
    for words, message in (
        (["udrl.zip"], "was saved by UDRL, not by GoGePo"),
        (["nowhere.zip"], "No such file"),
        (["model.zip", "--command", "inf"], "command must be a finite number"),
        (["model.zip", "--out", "model.h5"], "path must end in .onnx or .pt2"),
    ):
        with pytest.raises(SystemExit):
            main([str(tmp_path / words[0]), *words[1:]])
        assert message in capsys.readouterr().err
