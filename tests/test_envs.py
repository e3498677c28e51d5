import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import registry
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack

from sb3_gogepo import GoGePo
from sb3_gogepo.envs import LEGACY_IDS, alive_bonus, register_legacy_ids

N_OBS = {"Ant": 111, "Hopper": 11, "Humanoid": 376, "InvertedPendulum": 4, "Swimmer": 8, "Reacher": 11}
V2_AND_V3 = ["Ant", "HalfCheetah", "Hopper", "Humanoid", "Swimmer", "Walker2d"]
LISTED = [f"{name}-{version}" for name in V2_AND_V3 for version in ("v2", "v3")]
LISTED += ["InvertedPendulum-v2", "InvertedDoublePendulum-v2", "Reacher-v2"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    """MuJoCo writes its warnings to MUJOCO_LOG.TXT in the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _before_anything_else_was_imported():
    register_legacy_ids()


def test_legacy_ids_run_after_gymnasium_robotics():
    """Importing it registers them anew, on mujoco-py."""
    spec = registry["Hopper-v3"]
    try:
        entry_point = "gymnasium_robotics.envs.mujoco.hopper_v3:HopperEnv"
        registry["Hopper-v3"] = gym.envs.registration.EnvSpec("Hopper-v3", entry_point=entry_point)
        assert GoGePo("Hopper-v3").observation_space.shape == (11,)
    finally:
        registry["Hopper-v3"] = spec


@pytest.mark.parametrize("legacy_id", LISTED)
def test_legacy_ids_run(legacy_id):
    env = gym.make(legacy_id)
    observation, _ = env.reset(seed=0)
    name = legacy_id.split("-")[0]
    assert len(observation) == N_OBS.get(name, len(observation))
    env.step(env.action_space.sample())
    env.close()


def test_all_legacy_ids_are_listed():
    assert sorted(LEGACY_IDS) == sorted(LISTED)


@pytest.mark.parametrize("legacy_id", ["Hopper-v3", "InvertedPendulum-v2"])
def test_same_dynamics_as_v4(legacy_id):
    old, new = gym.make(legacy_id), gym.make(LEGACY_IDS[legacy_id])
    assert old.spec.max_episode_steps == new.spec.max_episode_steps
    assert np.array_equal(old.reset(seed=1)[0], new.reset(seed=1)[0])
    action = 0.5 * old.action_space.high
    for one, two in zip(old.step(action)[:4], new.step(action)[:4], strict=True):
        assert np.array_equal(one, two)
    old.close()
    new.close()


def test_an_id_somebody_registered_anew_is_left_alone():
    spec = registry["Hopper-v2"]
    try:
        registry["Hopper-v2"] = gym.envs.registration.EnvSpec("Hopper-v2", entry_point="somewhere:Hopper")
        register_legacy_ids()
        assert registry["Hopper-v2"].entry_point == "somewhere:Hopper"
    finally:
        registry["Hopper-v2"] = spec


def test_registering_twice_changes_nothing():
    before = registry["Ant-v3"]
    register_legacy_ids()
    assert registry["Ant-v3"] == before


def test_a_verbose_model_says_which_env_it_runs(tiny, capsys):
    GoGePo("InvertedPendulum-v2", **tiny, verbose=1)
    assert "InvertedPendulum-v2 needs mujoco-py, which is gone: using the dynamics and rewards of InvertedPendulum-v4" in (
        capsys.readouterr().out
    )
    GoGePo("InvertedPendulum-v2", **tiny)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("version", ["v3", "v4", "v5"])
@pytest.mark.parametrize(("name", "bonus"), [("Hopper", 1), ("Walker2d", 1), ("Ant", 1), ("Humanoid", 5), ("Swimmer", 0)])
def test_alive_bonus(name, bonus, version):
    model = GoGePo(f"{name}-{version}")
    assert alive_bonus(model.get_env()) == bonus
    assert model.alive_bonus_offset == -bonus
    model.get_env().close()


@pytest.mark.parametrize("name", ["InvertedPendulum", "InvertedDoublePendulum", "HumanoidStandup", "MountainCarContinuous"])
def test_the_bonus_is_kept_where_staying_up_is_the_task(name):
    newest = max(env_id for env_id in registry if env_id.startswith(f"{name}-"))
    assert alive_bonus(make_vec_env(newest)) == 0


def test_alive_bonus_of_this_very_env():
    for kwargs, bonus in [({"healthy_reward": 0.25}, 0.25), ({"terminate_when_unhealthy": False}, 0)]:
        assert alive_bonus(DummyVecEnv([lambda kwargs=kwargs: gym.make("Hopper-v5", **kwargs)])) == bonus
    for vec_env_cls in (DummyVecEnv, SubprocVecEnv):
        vec_env = make_vec_env("Hopper-v4", n_envs=2, vec_env_cls=vec_env_cls)
        assert alive_bonus(VecFrameStack(vec_env, 2)) == 1
        vec_env.close()


def test_a_vec_env_that_hides_its_envs():
    class Hiding(DummyVecEnv):
        has_attr = VecEnv.has_attr

        def get_attr(self, attr_name, indices=None):
            raise NotImplementedError

        def __init__(self, env_fns):
            self.get_attr = super().get_attr
            super().__init__(env_fns)
            del self.get_attr

    assert alive_bonus(make_vec_env("Hopper-v4", vec_env_cls=Hiding)) == 0


def test_the_bonus_can_be_kept_and_is_said(capsys):
    assert GoGePo("Hopper-v4", alive_bonus_offset=0).alive_bonus_offset == 0
    assert not capsys.readouterr().out
    assert GoGePo("Hopper-v4", verbose=1).alive_bonus_offset == -1
    assert "The env pays 1 a step for staying alive." in capsys.readouterr().out
