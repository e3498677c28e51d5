"""VecEnvs that are one batched simulator, and refuse whatever is no reset or step."""

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecEnv, VecFrameStack, VecMonitor, VecNormalize

from sb3_gogepo import GPIM, GoGePo
from sb3_gogepo.envs import alive_bonus, attribute_of
from sb3_gogepo.gpim import Navigation2D
from sb3_gogepo.rollouts.make_turns import can_seed_resets
from tests.conftest import SMALL
from tests.gpim.conftest import SMALL as SMALL_GPIM
from tests.toy_envs import Seeded

N_ENVS, LENGTH = 4, 5


class Batched(VecEnv):
    """Four envs in one array, LENGTH steps an episode, in their own kind of randomness."""

    def __init__(self, error=NotImplementedError):
        self.error = error
        self.rng, self.t = np.random.default_rng(0), np.zeros(N_ENVS, int)
        self.n_resets = self.n_steps = 0
        super().__init__(N_ENVS, spaces.Box(-1, 1, (2,), np.float32), spaces.Box(-1, 1, (1,), np.float32))

    def refuse(self, *args, **kwargs):
        raise self.error("refused")

    def get_attr(self, name, indices=None):
        return [None] * N_ENVS if name == "render_mode" else self.refuse()  # SB3 itself needs that

    set_attr = has_attr = env_method = env_is_wrapped = seed = get_images = refuse

    def close(self):
        pass

    def observe(self):
        return self.rng.uniform(-1, 1, (N_ENVS, 2)).astype(np.float32)

    def reset(self):
        self.t[:], self.n_resets = 0, self.n_resets + 1
        return self.observe()

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        self.t, self.n_steps = self.t + 1, self.n_steps + N_ENVS
        dones, observations = self.t >= LENGTH, self.observe()
        infos = [{"terminal_observation": observations[i]} if dones[i] else {} for i in range(N_ENVS)]
        self.t[dones] = 0
        return observations, self.actions[:, 0].astype(np.float32), dones, infos


class WithoutArguments(Batched):
    """Its methods take no arguments at all, as placeholders do."""

    def env_method(self):
        raise NotImplementedError

    set_attr = env_is_wrapped = seed = env_method


class HandsOn(Batched):
    """Calls are handed on to what there is, all envs at once; an attribute is one number, not a list."""

    def env_method(self, name, *args, indices=None, **kwargs):
        return getattr(self, name)(*args, indices=indices, **kwargs)

    def get_attr(self, name, indices=None):
        return [None] * N_ENVS if name == "render_mode" else getattr(self, name)

    def has_attr(self, name):
        return hasattr(self, name)


HOSTILE = {
    **{
        error.__name__: lambda error=error: Batched(error)
        for error in (NotImplementedError, AttributeError, TypeError, OSError)
    },
    "without arguments": WithoutArguments,
    "hands on": HandsOn,
    "VecMonitor": lambda: VecMonitor(Batched(AttributeError)),  # of which VecMonitor itself knows
    "VecNormalize": lambda: VecNormalize(Batched()),
    "VecFrameStack": lambda: VecFrameStack(Batched(), n_stack=2),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_they_train(kind, make_model):
    env = HOSTILE[kind]()
    model = make_model(env, verbose=0).learn(3 * N_ENVS * LENGTH).learn(N_ENVS * LENGTH, reset_num_timesteps=False)
    assert model.num_timesteps == 4 * N_ENVS * LENGTH
    assert model._n_updates > 0
    model.set_random_seed(3)
    assert len(model.evaluate_commands([0.0], n_eval_episodes=2).mean_returns) == 1


def test_pruning_lets_them_alone():
    """Single envs cannot be reset."""
    model = GoGePo("MlpPolicy", Batched(), **{**SMALL[GoGePo], "prune_after": 0.2}).learn(600)
    assert model.num_timesteps == LENGTH * model._episode_num


def test_callbacks_come_as_often_as_with_sac(make_model):
    """Envs that wait go on stepping: the simulator steps all at once. Nobody counts that."""

    class Count(BaseCallback):
        def _on_step(self):
            return True

    env, callback = Batched(), Count()
    model = make_model(env, n_candidates=6).learn(200, callback)
    assert env.n_steps > model.num_timesteps
    assert callback.n_calls == pytest.approx(model.num_timesteps / N_ENVS, abs=1)


SAID = "results depend on the env's own seeds"


@pytest.mark.parametrize(("verbose", "n_lines"), [(0, 0), (1, 1)])
def test_one_line_says_that_resets_are_not_seeded(verbose, n_lines, make_model, capsys):
    make_model(Batched(), verbose=verbose).learn(60)
    assert capsys.readouterr().out.count(SAID) == n_lines


@pytest.mark.parametrize("wrap", [VecNormalize, VecCheckNan, lambda env: VecFrameStack(env, n_stack=2)])
def test_resets_of_sb3s_vec_envs_are_seeded(wrap, make_model, capsys):
    env = wrap(make_vec_env(Seeded, 2))
    assert can_seed_resets(env)
    make_model(env, verbose=1).learn(10)
    assert SAID not in capsys.readouterr().out


class OwnSteps(DummyVecEnv):
    """Does something of its own in each step, which nobody must leave out."""

    n_own = 0

    def step_wait(self):
        self.n_own += 1
        return super().step_wait()


def test_a_vec_env_with_steps_of_its_own_makes_them(make_model, capsys):
    env = OwnSteps([Seeded])
    model = make_model(env, verbose=1).learn(20)
    assert env.n_own == model.num_timesteps
    assert f"The envs behind OwnSteps cannot be reset one by one with seeds: {SAID}" in capsys.readouterr().out


def test_gpim_says_it_too(capsys):
    env = OwnSteps([lambda: Navigation2D(horizon=5)])
    model = GPIM("MultiInputPolicy", env, **SMALL_GPIM, verbose=1).learn(20)
    assert env.n_own == model.num_timesteps == 20
    assert capsys.readouterr().out.count(SAID) == 1


@pytest.mark.parametrize("kind", HOSTILE)
def test_look_ups_have_a_default(kind):
    env = HOSTILE[kind]()
    assert attribute_of(env, "allow_early_resets", otherwise="none") == "none"
    assert alive_bonus(env) == 0
