"""``model.policy`` is traced and exported as a generated policy is, whatever was called before."""

import importlib.util
import warnings

import numpy as np
import pytest
import torch as th

from tests.helpers import act
from tests.toy_envs import Seeded

OBSERVATIONS = th.tensor([[0.5, 0.0], [-0.5, 3.0], [2.0, 1.0]])


def trace(policy):
    return th.jit.trace(policy, OBSERVATIONS[:2])


def export(policy):
    return th.export.export(policy, (OBSERVATIONS[:2],), dynamic_shapes=({0: th.export.Dim("n")},)).module()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("to_graph", [trace, export], ids=["trace", "export"])
@pytest.mark.parametrize("predicts_before", [False, True])
@pytest.mark.parametrize("n_steps", [0, 20], ids=["before", "after training"])
def test_the_models_policy_can_be_traced_and_exported(n_steps, predicts_before, to_graph, make_model):
    model = make_model()
    if n_steps:
        model.learn(n_steps)
    model.command = 0.5
    if predicts_before:
        act(model, OBSERVATIONS.numpy())
    policy = model.policy
    policy.set_training_mode(False)
    graph = to_graph(policy)
    th.testing.assert_close(graph(OBSERVATIONS), policy(OBSERVATIONS))
    model.command = -3.0  # exporting left nothing behind
    fresh = make_model()
    fresh.set_parameters(model.get_parameters())
    assert np.array_equal(act(model, OBSERVATIONS.numpy()), act(fresh, OBSERVATIONS.numpy()))


@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="needs onnxscript")
def test_the_models_policy_becomes_onnx(make_model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = th.onnx.export(make_model(Seeded()).policy, (OBSERVATIONS,), dynamo=True)
    assert program is not None
