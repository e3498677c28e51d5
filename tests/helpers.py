"""What tests of several algorithms use."""

import json

import numpy as np
import torch as th
from stable_baselines3.common.logger import KVWriter, Logger

from benchmarks.reliability.hostile_files import read_entries, write_entries

OBSERVATIONS = np.array([[0.5, 0.0], [-0.5, 3.0], [2.0, 1.0]], np.float32)


class Recorder(KVWriter):
    """Keeps what is logged: a list of (step, {key: value})."""

    def __init__(self):
        self.entries = []

    def write(self, key_values, key_excluded, step=0):
        self.entries.append((step, dict(key_values)))

    def close(self):
        pass


def record_logs(model):
    recorder = Recorder()
    model.set_logger(Logger(folder=None, output_formats=[recorder]))
    return recorder


def act(model, observations):
    """What the model does without sampling."""
    return model.predict(observations, deterministic=True)[0]


def parameters_of(model):
    """All parameters and buffers of the policy as one vector."""
    return th.cat([value.double().flatten() for value in model.policy.state_dict().values()])


def assert_same_buffer_state(one, two):
    """Two ``state_dict`` of replay buffers."""
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert th.equal(value, two[name]) if isinstance(value, th.Tensor) else value == two[name], name


def assert_same_buffer(one, two):
    assert_same_buffer_state(one.replay_buffer.state_dict(), two.replay_buffer.state_dict())


def assert_same_result(one, two):
    assert th.equal(parameters_of(one), parameters_of(two))
    assert_same_buffer(one, two)
    assert one.num_timesteps == two.num_timesteps


def optimizers_of(model):
    return [getattr(model.policy, name) for name in model.policy.optimizer_names]


def rewrite_data(path, change):
    """Change the settings in a model's file."""
    entries = read_entries(path.read_bytes())
    data = json.loads(entries["data"])
    change(data)
    entries["data"] = json.dumps(data).encode()
    path.write_bytes(write_entries(list(entries.items())))
