"""Models, policies and buffers survive pickle, cloudpickle and deepcopy, and go on as the originals do."""

import copy
import pickle

import cloudpickle
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_gogepo import GPIM
from tests.conftest import SMALL
from tests.gpim.conftest import SMALL as SMALL_GPIM
from tests.gpim.conftest import make_env
from tests.helpers import act, assert_same_result
from tests.toy_envs import Seeded

N_STEPS = 40
#: algorithm -> (what makes its env, constructor arguments)
MODELS = {
    **{algorithm: (Seeded, arguments) for algorithm, arguments in SMALL.items()},
    GPIM: (make_env, SMALL_GPIM),
}
COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "cloudpickle": lambda value: cloudpickle.loads(cloudpickle.dumps(value)),
}


@pytest.fixture(params=MODELS, ids=lambda algorithm: algorithm.__name__)
def algorithm(request):
    return request.param


@pytest.fixture(params=COPIES)
def make_copy(request):
    return COPIES[request.param]


def make_model(algorithm, **overrides):
    make_env, arguments = MODELS[algorithm]
    policy = next(iter(algorithm.policy_aliases))
    return algorithm(policy, make_env(), **{**arguments, **overrides})


def observe(model):
    space = model.observation_space
    space.seed(0)
    return space.sample()


@pytest.mark.parametrize("n_steps", [0, N_STEPS], ids=["before", "after training"])
def test_a_copied_model_goes_on_as_the_original(n_steps, algorithm, make_copy):
    model = make_model(algorithm, verbose=1)  # its logger writes to stdout
    if n_steps:
        model.learn(n_steps)
    model.env = None
    twin = make_copy(model)
    assert np.array_equal(act(twin, observe(model)), act(model, observe(model)))
    for each in (model, twin):
        each.set_env(MODELS[algorithm][0]())
        each.learn(N_STEPS, reset_num_timesteps=False)
    assert_same_result(model, twin) if algorithm is not GPIM else assert_same_gpim(model, twin)
    assert not {id(parameter) for parameter in model.policy.parameters()} & set(map(id, twin.policy.parameters()))


def assert_same_gpim(one, two):
    for name, value in one.policy.state_dict().items():
        assert th.equal(value, two.policy.state_dict()[name]), name
    assert one.num_timesteps == two.num_timesteps


def test_a_copied_policy_predicts_the_same(algorithm, make_copy):
    model = make_model(algorithm).learn(N_STEPS)
    observation = observe(model)
    expected = act(model, observation)
    assert np.array_equal(act(make_copy(model.policy), observation), expected)
    if hasattr(model, "generate_policy"):
        policy = model.generate_policy(0.5)
        assert np.array_equal(act(make_copy(policy), observation), act(policy, observation))


def test_a_copied_buffer_samples_the_same(algorithm, make_copy):
    model = make_model(algorithm).learn(N_STEPS)
    buffers = [model.replay_buffer.skill, model.replay_buffer.goal] if algorithm is GPIM else [model.replay_buffer]
    for buffer in buffers:
        twin = make_copy(buffer)
        for one, two in zip(buffer.sample(4), twin.sample(4), strict=True):
            for key in one if isinstance(one, dict) else [...]:
                assert (one is None and two is None) or th.equal(one[key], two[key])


def test_rewards_of_a_copied_model_are_those_of_its_own_discriminator(make_copy):
    twin = make_copy(make_model(GPIM))
    for buffer in (twin.replay_buffer.skill, twin.replay_buffer.goal):
        assert buffer.reward_function.__self__ is twin.policy.discriminator


class CopyOnStep(BaseCallback):
    copied = None

    def _on_step(self):
        self.copied = self.copied or copy.deepcopy(self.model)
        return True


def test_a_model_copied_in_a_callback_can_learn(algorithm):
    callback = CopyOnStep()
    make_model(algorithm).learn(N_STEPS, callback=callback)
    assert callback.copied.learn(N_STEPS, reset_num_timesteps=False).num_timesteps >= N_STEPS
