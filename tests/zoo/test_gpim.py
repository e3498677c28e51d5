"""RL Zoo on GPIM: its presets, and one short run of train and enjoy."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from sb3_gogepo import GPIM
from sb3_gogepo.gpim import GoalWrapper, GPIMPolicy
from sb3_gogepo.zoo import register

from .test_registration import load_presets, make_manager

pytest.importorskip("rl_zoo3", reason="RL Zoo is not installed: pip install -e '.[zoo]'")


def test_presets_are_data_that_the_constructor_takes() -> None:
    arguments = set(inspect.signature(GPIM).parameters) | {"n_timesteps", "n_envs", "env_wrapper", "env_kwargs"}
    policy_arguments = set(inspect.signature(GPIMPolicy).parameters)
    for entry in load_presets("gpim").values():
        assert set(entry) <= arguments
        assert set(entry.get("policy_kwargs", {})) <= policy_arguments
        assert entry["policy"] == "MultiInputPolicy"
        assert isinstance(entry["n_timesteps"], int)


@pytest.mark.parametrize("env_id", ["Navigation2D-v0", "Swimmer-v5"])
def test_preset_models_learn(env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    register()
    manager = make_manager(tmp_path, algo="gpim", env_id=env_id, n_timesteps=50, eval_freq=-1)
    model, _ = manager.setup_experiment()
    assert isinstance(model, GPIM)
    assert model.get_env().env_is_wrapped(GoalWrapper) == [env_id == "Swimmer-v5"]
    model.learn(2)
    assert model.num_timesteps == 100  # one episode of 50 steps of each policy
    model.get_env().close()


def test_train_and_enjoy(zoo: Callable[..., str]) -> None:
    assert "presets/gpim.yml" in zoo("rl_zoo3 train --algo gpim --env Navigation2D-v0 -n 200 --eval-freq -1")
    assert "Mean reward" in zoo("rl_zoo3 enjoy --algo gpim --env Navigation2D-v0 -f logs --no-render -n 100")
