"""The same observation, the same action: whatever its type, and wherever it is acted on."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_gogepo import UDRL
from tests.helpers import act

#: space, an observation in it
OBSERVATIONS = {
    "float32": (spaces.Box(-np.inf, np.inf, (3,), np.float32), [0.2, 9.81, 1e8]),
    "float64": (spaces.Box(-np.inf, np.inf, (3,), np.float64), [0.2, 9.81, 1e8]),
    "float16": (spaces.Box(-np.inf, np.inf, (3,), np.float16), [0.2, 9.81, 1e3]),
    "int8": (spaces.Box(-100, 100, (3,), np.int8), [2, 9, 100]),
    "int64": (spaces.Box(-(10**9), 10**9, (3,), np.int64), [2, 9, 10**9]),
}


class Partly(gym.Env):
    """Only the first entry of the observation changes; reward = minus what the first action lacks to 0.5."""

    def __init__(self, space, constants, action_space, as_observed=np.asarray):
        self.observation_space, self.action_space = space, action_space
        self.constants, self.as_observed = constants, as_observed
        self.acted = []

    def _observation(self):
        values = np.array(self.constants, np.float64)
        values[0] += self.np_random.integers(-2, 3)
        self.observed = values.astype(self.observation_space.dtype)
        return self.as_observed(self.observed)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observation(), {}

    def step(self, action):
        self.t += 1
        self.acted.append((self.observed, action))
        return self._observation(), -((float(np.ravel(action)[0]) - 0.5) ** 2), self.t >= 5, False, {}


BOX = spaces.Box(np.array([[-1.0, 0.0]], np.float32), np.array([[1.0, 5.0]], np.float32))  # (1, 2)


@pytest.mark.parametrize("action_space", [BOX, spaces.Discrete(4, start=-2)], ids=["Box", "Discrete"])
@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_the_type_of_an_observation_does_not_matter(kind, action_space, make_model):
    space, values = OBSERVATIONS[kind]
    env = Partly(space, values, action_space)
    model = make_model(env).learn(60)
    env.acted.clear()
    model.evaluate_commands([model.command], n_eval_episodes=3)
    in_space = np.array(values, space.dtype)
    forms = [in_space, in_space.astype(np.float64), in_space.astype(">f8"), in_space.astype(np.longdouble), in_space.tolist()]
    actors = [model, model.policy]
    if not isinstance(model, UDRL):  # whose command changes with each step
        actors += [model.generate_policy(model.command)]
        for observation, action in env.acted:
            np.testing.assert_allclose(act(model, observation), action, atol=1e-5)
    expected = act(model, in_space)
    for actor in actors:
        for form in forms:
            np.testing.assert_allclose(act(actor, form), expected, atol=1e-5)
    if space.dtype == np.float32:  # numbers before they are rounded, as a list has them
        np.testing.assert_array_equal(act(model, values), expected)


def test_policies_survive_the_buffer_where_something_never_changes(make_model, algorithm):
    if algorithm is UDRL:
        pytest.skip("its buffer holds no policies")
    space, values = OBSERVATIONS["float32"]
    model = make_model(Partly(space, values, spaces.Box(-1, 1, (1,), np.float32)), fold_normalization=True).learn(60)
    normalizer, layout = model.policy.normalizer, model.policy.layout
    weights = model.policy.generate_weights([model.command])
    first, *others = layout.split(weights)
    stored = layout.join([normalizer.fold(first), *others])
    th.testing.assert_close(model.stored_weights(stored), weights, atol=1e-3, rtol=1e-3)


def test_what_was_constant_may_change_a_little(make_model):
    """Before, it was divided by 1e-8."""
    space, values = OBSERVATIONS["float32"]
    model = make_model(Partly(space, values, spaces.Box(-1, 1, (1,), np.float32))).learn(60)
    changed = np.array([0.2, 9.81 + 1e-4, 1e8])
    np.testing.assert_allclose(act(model, changed), act(model, values), atol=1e-3)


class Reshaped:
    def __init__(self, shape):
        self.shape = shape

    def __call__(self, observed):
        return observed.reshape(self.shape)


@pytest.mark.parametrize(
    ("vec_env", "shape", "is_right"),
    [
        (DummyVecEnv, (1, 3), True),
        (DummyVecEnv, (1, 1, 3), True),
        (SubprocVecEnv, (1, 3), True),
        (SubprocVecEnv, (3, 1), False),
    ],
)
def test_further_axes_of_what_an_env_observes(vec_env, shape, is_right, make_model):
    space, values = OBSERVATIONS["float32"]
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    env = vec_env([lambda: Partly(space, values, action_space, Reshaped(shape))] * 2)
    try:
        if is_right:
            model = make_model(env).learn(20)
            assert model.evaluate_commands([0.0], 1).mean_lengths == [5]
        else:
            with pytest.raises(ValueError, match=r"arrays of the shape \(3,\) of its space, got \(3, 1\)"):
                make_model(env).learn(20)
    finally:
        env.close()


@pytest.mark.parametrize("shape", [(), (1, 1, 2), (2, 1), (3,)], ids=str)
def test_predict_refuses_other_shapes_by_name(shape, make_model):
    with pytest.raises(ValueError, match="Unexpected observation shape"):
        make_model().predict(np.zeros(shape))
