"""What each env does, what is counted of it, and how often callbacks come: under every VecEnv wrapper, as with SB3's SAC."""

from itertools import chain

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from sb3_gogepo import GPIM, UDRL, UDRLPG, GoGePo
from sb3_gogepo.gpim import Navigation2D
from tests.conftest import SMALL
from tests.gpim.conftest import SMALL as SMALL_GPIM
from tests.helpers import assert_same_result
from tests.toy_envs import Seeded

N_STEPS = 160


class Counted(gym.Env):
    """Random observations, reward 1, and counters of what was done with it."""

    def __init__(self, kind="fixed"):
        self.observation_space, self.action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Box(-1, 1, (1,), np.float32)
        self.kind = kind
        self.n_resets = self.n_steps = self.n_ends = 0

    def observe(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_resets += 1
        self.left = {"fixed": 6, "one step": 1, "random": int(self.np_random.integers(1, 12))}[self.kind]
        return self.observe(), {}

    def step(self, action):
        assert self.left > 0, "a step after the end of an episode"
        self.left -= 1
        self.n_steps += 1
        self.n_ends += self.left == 0
        return self.observe(), 1.0, self.left == 0, False, {}


class CountedDict(gym.ObservationWrapper):
    """... that observes a dictionary."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Dict({"state": env.observation_space})

    def observation(self, observation):
        return {"state": observation}


#: (wrapper of the single env, wrapper of the VecEnv). VecTransposeImage is for images, which are refused. VecVideoRecorder
#: needs an env that can be rendered; it steps and resets as the VecEnv below it.
WRAPPERS = {
    "none": (Monitor, lambda env: env),
    "VecNormalize": (Monitor, VecNormalize),
    "VecMonitor": (lambda env: env, VecMonitor),
    "VecFrameStack": (Monitor, lambda env: VecFrameStack(env, n_stack=2)),
    "VecCheckNan": (Monitor, lambda env: VecCheckNan(env, raise_exception=True)),
    "VecExtractDictObs": (lambda env: Monitor(CountedDict(env)), lambda env: VecExtractDictObs(env, "state")),
    "two": (lambda env: env, lambda env: VecNormalize(VecMonitor(VecFrameStack(env, n_stack=2)))),
}


class Calls(BaseCallback):
    """Counts its calls, and keeps the lengths of the episodes that it is told of."""

    def __init__(self):
        super().__init__()
        self.lengths = []

    def _on_step(self):
        self.lengths += [info["episode"]["l"] for info in self.locals["infos"] if "episode" in info]
        return True


def make_model(algorithm, env, **overrides):
    """A small model that does not train."""
    common = dict(seed=0, device="cpu", stats_window_size=10_000, **overrides)
    if algorithm is SAC:
        return SAC("MlpPolicy", env, learning_starts=10**6, buffer_size=1000, policy_kwargs=dict(net_arch=[4]), **common)
    return algorithm("MlpPolicy", env, **{**SMALL[algorithm], "train_freq": 10**6, **common})


def counts(env):
    """(n_resets, n_steps, n_ends) of all envs together."""
    return np.array([sum(env.get_attr(name)) for name in ("n_resets", "n_steps", "n_ends")])


def assert_counted_once(model, env, callback, n_pruned=0, before=0):
    """Each step, reset and episode of the envs is one of the training, and callbacks come as often as with SAC.

    :param before: what had been counted before the training.
    """
    n_resets, n_steps, n_ends = counts(env) - before
    assert n_steps == model.num_timesteps
    assert n_ends + n_pruned <= n_resets <= n_ends + n_pruned + env.num_envs
    assert len(callback.lengths) == len(model.ep_info_buffer) == n_ends + n_pruned
    assert sorted(info["l"] for info in model.ep_info_buffer) == sorted(callback.lengths)
    n_calls = model.num_timesteps / env.num_envs
    assert 0.9 * n_calls - 1 <= callback.n_calls <= 1.1 * n_calls + 1


@pytest.mark.parametrize("algorithm", [SAC, GoGePo, UDRLPG, UDRL], ids=lambda algorithm: algorithm.__name__)
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize(("kind", "n_envs"), [("random", 1), ("fixed", 8), ("random", 8), ("one step", 8)])
def test_every_wrapper(algorithm, wrapper, kind, n_envs):
    of_env, of_vec_env = WRAPPERS[wrapper]
    env = of_vec_env(DummyVecEnv([lambda: of_env(Counted(kind))] * n_envs))
    callback = Calls()
    model = make_model(algorithm, env).learn(N_STEPS, callback, log_interval=None)
    assert_counted_once(model, env, callback)
    if of_env is Monitor:
        assert sorted(chain(*env.env_method("get_episode_lengths"))) == sorted(callback.lengths)
        assert sum(env.get_attr("total_steps")) == model.num_timesteps
    if wrapper == "VecMonitor":
        assert env.episode_count == len(callback.lengths)


@pytest.mark.parametrize("algorithm", SMALL, ids=lambda algorithm: algorithm.__name__)
@pytest.mark.parametrize("n_candidates", [3, 20])
def test_any_number_of_candidates(algorithm, n_candidates):
    """With fewer than envs, some never run; with more, they run in turn."""
    env, callback = make_vec_env(lambda: Counted("random"), 8), Calls()
    model = make_model(algorithm, env, n_candidates=n_candidates).learn(N_STEPS, callback, log_interval=None)
    assert_counted_once(model, env, callback)


@pytest.mark.parametrize("wrap", [VecMonitor, lambda env: VecFrameStack(env, n_stack=2)], ids=["VecMonitor", "VecFrameStack"])
@pytest.mark.parametrize("algorithm", SMALL, ids=lambda algorithm: algorithm.__name__)
def test_results_do_not_depend_on_the_number_of_envs_under_wrappers_that_follow_episodes(algorithm, wrap):
    models = [algorithm(wrap(DummyVecEnv([Seeded] * n_envs)), **SMALL[algorithm] | {"n_candidates": 4}) for n_envs in (1, 5)]
    assert_same_result(*(model.learn(80) for model in models))


@pytest.mark.parametrize("n_envs", [1, 8])
def test_pruned_episodes_are_reset_once(n_envs):
    """Rewards fall behind those of the first episodes, so that later ones are pruned."""

    class Falling(Counted):
        def step(self, action):
            observation, _, *others = super().step(action)
            return observation, -float(self.n_steps), *others

    env, callback = make_vec_env(Falling, n_envs), Calls()
    model = make_model(GoGePo, env, prune_after=0.2).learn(600, callback)
    n_pruned = model._episode_num - counts(env)[2]
    assert n_pruned > 10
    assert_counted_once(model, env, callback, n_pruned)


@pytest.fixture(scope="module")
def subproc():
    """Two processes for all tests, as they take seconds to start."""
    env = SubprocVecEnv([lambda kind=kind: Monitor(Counted(kind)) for kind in ("random", "fixed")])
    yield env
    env.close()


@pytest.mark.parametrize("algorithm", [SAC, *SMALL], ids=lambda algorithm: algorithm.__name__)
@pytest.mark.parametrize("wrapper", ["none", "VecNormalize"])
def test_envs_in_processes(algorithm, wrapper, subproc):
    env, callback, before = WRAPPERS[wrapper][1](subproc), Calls(), counts(subproc)
    model = make_model(algorithm, env).learn(100, callback)
    assert_counted_once(model, env, callback, before=before)


class CountedNavigation(Navigation2D):
    """Navigation2D with the counters of :class:`Counted`."""

    def __init__(self, kind):
        super().__init__(horizon={"one step": 1}.get(kind, 6))
        self.kind, self.n_resets, self.n_steps, self.n_ends = kind, 0, 0, 0

    def reset(self, **kwargs):
        self.n_resets += 1
        observation, info = super().reset(**kwargs)
        self.left = int(self.np_random.integers(1, 6)) if self.kind == "random" else 1000
        return observation, info

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        self.n_steps, self.left = self.n_steps + 1, self.left - 1
        truncated = truncated or self.left == 0
        self.n_ends += terminated or truncated
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize("kind", ["fixed", "random", "one step"])
@pytest.mark.parametrize("n_envs", [1, 8])
def test_gpim(kind, n_envs):
    env, callback = make_vec_env(lambda: CountedNavigation(kind), n_envs), Calls()
    arguments = {**SMALL_GPIM, "learning_starts": 10**6, "stats_window_size": 10_000}
    model = GPIM("MultiInputPolicy", env, **arguments).learn(N_STEPS, callback, log_interval=None)
    assert_counted_once(model, env, callback)
    assert sorted(chain(*env.env_method("get_episode_lengths"))) == sorted(callback.lengths)
