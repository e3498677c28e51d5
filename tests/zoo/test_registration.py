"""What is registered, the presets and the search spaces, inside this process."""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import ConstantSchedule

from sb3_gogepo import GoGePo
from sb3_gogepo.base.command_algorithm import CommandAlgorithm
from sb3_gogepo.zoo import ALGORITHMS, preset_path, register

pytest.importorskip("rl_zoo3", reason="RL Zoo is not installed: pip install -e '.[zoo]'")

MUJOCO = ("Swimmer", "Hopper", "HalfCheetah", "Walker2d", "Ant", "Humanoid")
PENDULUMS = ("InvertedPendulum", "InvertedDoublePendulum", "Reacher")
ENV_IDS = {
    *(f"{name}-{version}" for name in MUJOCO for version in ("v2", "v3", "v4", "v5")),
    *(f"{name}-{version}" for name in PENDULUMS for version in ("v2", "v4", "v5")),
    *("Pusher-v4", "Pusher-v5", "MountainCarContinuous-v0", "Pendulum-v1", "CartPole-v1", "Acrobot-v1"),
    *("LunarLander-v3", "LunarLanderContinuous-v3"),
}
#: The newest version of each env
NEWEST = {env_id.rpartition("-")[0]: env_id for env_id in sorted(ENV_IDS)}
#: algorithms that learn from rewards, on the same envs
COMMANDED = [name for name, entry in ALGORITHMS.items() if issubclass(entry.algorithm, CommandAlgorithm)]
ALIVE_BONUS = {"Hopper": -1, "Walker2d": -1, "Ant": -1, "Humanoid": -5}


def load_presets(name: str) -> dict[str, dict[str, Any]]:
    return yaml.safe_load(preset_path(name).read_text())


def make_manager(folder: Path, algo: str = "gogepo", env_id: str = "Hopper-v3", **kwargs: Any) -> Any:
    from rl_zoo3.exp_manager import ExperimentManager

    return ExperimentManager(argparse.Namespace(), algo, env_id, str(folder), **kwargs)


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()


def test_registered_once_in_each_place() -> None:
    from rl_zoo3 import hyperparams_opt, train
    from rl_zoo3.exp_manager import ExperimentManager

    init = ExperimentManager.__init__
    register()
    assert ExperimentManager.__init__ is init
    for name, entry in ALGORITHMS.items():
        assert train.ALGOS[name] is entry.algorithm
        assert hyperparams_opt.HYPERPARAMS_SAMPLER[name] is entry.sample
        assert hyperparams_opt.HYPERPARAMS_CONVERTER[name] is entry.convert


def test_entries_of_the_same_name_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from rl_zoo3.utils import ALGOS

    monkeypatch.setitem(ALGOS, "gogepo", dict)
    register()
    assert ALGOS["gogepo"] is dict


def test_preset_path_of_an_unknown_algorithm() -> None:
    with pytest.raises(ValueError, match=r"^name must be one of gogepo.*, got 'ppo'$"):
        preset_path("ppo")


def test_config_is_ours_unless_given(tmp_path: Path) -> None:
    assert make_manager(tmp_path).config == str(preset_path("gogepo"))
    assert make_manager(tmp_path, config="mine.yml").config == "mine.yml"
    assert make_manager(tmp_path, algo="ppo").config.endswith("rl_zoo3/hyperparams/ppo.yml")


@pytest.mark.parametrize("name", COMMANDED)
def test_presets_are_data_that_the_constructor_takes(name: str) -> None:
    presets = load_presets(name)
    arguments = set(inspect.signature(ALGORITHMS[name].algorithm).parameters) - {"self", "env", "_init_setup_model"}
    assert set(presets) == ENV_IDS | {"default"}
    for entry in presets.values():
        assert set(entry) <= arguments | {"n_timesteps", "n_envs"}
        assert {"policy", "n_timesteps"} <= set(entry)
        assert [value for key, value in entry.items() if isinstance(value, str)] == ["MlpPolicy"]
        assert isinstance(entry["n_timesteps"], int)


@pytest.mark.parametrize("name", COMMANDED)
def test_all_versions_of_an_env_have_the_same_preset(name: str) -> None:
    presets = load_presets(name)
    assert all(presets[env_id] == presets[NEWEST[env_id.rpartition("-")[0]]] for env_id in ENV_IDS)


@pytest.mark.parametrize("name", COMMANDED)
def test_alive_bonus_in_presets(name: str) -> None:
    for env_id, entry in load_presets(name).items():
        assert entry.get("alive_bonus_offset") == ALIVE_BONUS.get(env_id.split("-")[0])


@pytest.mark.parametrize("name", sorted(ALIVE_BONUS))
def test_v5_pays_the_bonus_until_the_fall(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the docs say of the bonus, so that a change in Gymnasium is noticed."""
    monkeypatch.chdir(tmp_path)
    env = gym.make(f"{name}-v5")
    env.action_space.seed(0)
    env.reset(seed=0)
    terminated = False
    bonuses = []
    while not terminated:
        _, _, terminated, _, info = env.step(env.action_space.sample())
        bonuses.append(info["reward_survive"])
    env.close()
    assert set(bonuses[:-1]) == {-ALIVE_BONUS[name]}
    assert bonuses[-1] == 0


@pytest.mark.parametrize("env_id", sorted(ENV_IDS))
def test_preset_envs_are_registered(env_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert env_id in gym.registry
    make_manager(tmp_path, env_id=env_id).read_hyperparameters()
    assert "Using 'default'" not in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDED)
@pytest.mark.parametrize("env_id", NEWEST.values())
def test_each_preset_runs(env_id: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The env is made the way RL Zoo does, with episodes of 10 steps."""
    if env_id.startswith("LunarLander"):
        pytest.importorskip("Box2D", reason="Box2D is not installed: pip install 'gymnasium[box2d]'")
    monkeypatch.chdir(tmp_path)  # MuJoCo writes MUJOCO_LOG.TXT to the current folder
    hyperparams, _ = make_manager(tmp_path, algo=name, env_id=env_id).read_hyperparameters()
    arguments = {key: value for key, value in hyperparams.items() if key not in ("n_timesteps", "n_envs")}
    env = gym.spec(env_id).make(max_episode_steps=10)
    model: Any = ALGORITHMS[name].algorithm(env=env, **arguments).learn(20)
    assert model.num_timesteps >= 20
    assert model.alive_bonus_offset == ALIVE_BONUS.get(env_id.split("-")[0], 0)
    env.close()


def test_pusher_v4_needs_old_bindings() -> None:
    """What docs and presets say, so that a change in Gymnasium is noticed."""
    with pytest.raises(ImportError, match="mujoco"):
        gym.make("Pusher-v4")


def test_load_the_way_rl_zoo_does(tmp_path: Path) -> None:
    """``enjoy``, then ``train -i``."""
    model = GoGePo("Hopper-v3", learning_rate=ConstantSchedule(1e-4)).learn(30)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "replay_buffer.pkl")
    custom_objects = {"learning_rate": 0.0, "lr_schedule": lambda _: 0.0, "clip_range": lambda _: 0.0}
    GoGePo.load(tmp_path / "model", custom_objects=custom_objects, device="auto", seed=0)
    settings = dict(alive_bonus_offset=-1, learning_rate=ConstantSchedule(1e-5))
    env = make_vec_env("Hopper-v3")
    model = GoGePo.load(tmp_path / "model", env=env, seed=1, tensorboard_log=None, verbose=0, device="auto", **settings)
    model.load_replay_buffer(tmp_path / "replay_buffer.pkl", truncate_last_traj=True)
    assert model.lr_schedule(1) == 1e-5
    model.learn(30)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_search_space(name: str) -> None:
    import optuna

    trial = optuna.create_study().ask()
    entry = ALGORITHMS[name]
    hyperparams = entry.sample(trial, 1, 1, {})
    assert entry.convert(trial.params) == hyperparams
    policy, env_id = (
        ("MlpPolicy", "MountainCarContinuous-v0") if name in COMMANDED else ("MultiInputPolicy", "Navigation2D-v0")
    )
    model: Any = entry.algorithm(policy, env_id, **hyperparams)
    assert model.batch_size == hyperparams["batch_size"]


def test_unknown_script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from sb3_gogepo.zoo.__main__ import main

    monkeypatch.setattr(sys, "argv", ["zoo", "trian"])
    with pytest.raises(SystemExit):
        main()
    assert "invalid choice: 'trian'" in capsys.readouterr().err


def test_command_option_sets_the_command_of_loaded_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rl_zoo3.utils import ALGOS

    from sb3_gogepo.zoo.__main__ import _take_command

    GoGePo("MountainCarContinuous-v0").save(tmp_path / "model")
    for name in COMMANDED:
        monkeypatch.setitem(ALGOS, name, ALGORITHMS[name].algorithm)  # put back afterwards
    assert _take_command("enjoy", ["-f", "logs", "--command", "15", "-n", "3"]) == ["-f", "logs", "-n", "3"]
    model = ALGOS["gogepo"].load(tmp_path / "model")
    assert model.command == 15
    assert GoGePo.load(tmp_path / "model").command != 15
