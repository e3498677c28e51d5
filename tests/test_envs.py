import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import registry

from sb3_gogepo import GoGePo
from sb3_gogepo.envs import LEGACY_IDS, register_legacy_ids

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
