"""The ``rl_zoo3`` command as ``test_docs.py`` does not run it: with UDRLPG and UDRL. And ``--track``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

#: what stands in for Weights & Biases; it writes down how it was called
FAKE_WANDB = """
import json

class Run:
    class config:
        setdefaults = staticmethod(lambda values: None)

def init(**kwargs):
    with open("wandb.json", "w") as file:
        json.dump({name: kwargs[name] for name in ("name", "project", "sync_tensorboard")}, file)
    return Run
"""


@pytest.mark.slow  # six processes, for what UDRLPG shares with the documented commands of the others
def test_train_enjoy_continue(zoo: Callable[..., str], tmp_path: Path) -> None:
    params = "n_envs:2 n_warm_up_episodes:2 train_freq:100"
    train = f"rl_zoo3 train --algo udrlpg --env CartPole-v1 -params {params} --seed 1"
    printed = zoo(f"{train} -n 600 --eval-freq 200 --eval-episodes 2 --save-freq 200 --save-replay-buffer --vec-env subproc")
    assert "presets/udrlpg.yml" in printed
    assert "n_updates" in printed
    folder = tmp_path / "logs" / "udrlpg"
    expected = {"best_model.zip", "replay_buffer.pkl", "evaluations.npz", "CartPole-v1.zip"}
    assert expected <= {path.name for path in (folder / "CartPole-v1_1").iterdir()}
    checkpoint = next((folder / "CartPole-v1_1").glob("rl_model_*_steps.zip")).name.split("_")[2]

    enjoy = "enjoy --algo udrlpg --env CartPole-v1 -f logs --no-render -n 600"  # longer than any episode
    for chosen in ("--load-best", f"--load-checkpoint {checkpoint}"):
        assert "Mean reward" in zoo(f"rl_zoo3 {enjoy} {chosen}")
    assert "Mean reward" in zoo(f"python -m sb3_gogepo.zoo {enjoy} --command 12")

    printed = zoo(f"{train} -n 300 -i logs/udrlpg/CartPole-v1_1/CartPole-v1.zip")
    assert "Loading replay buffer" in printed
    assert (folder / "CartPole-v1_2" / "CartPole-v1.zip").is_file()


def test_optimize_then_train_with_a_trial(zoo: Callable[..., str], tmp_path: Path) -> None:
    """Hyperparameters of a trial come back from the journal through the converter."""
    journal = "--storage study.log --study-name study"
    train = "rl_zoo3 train --algo udrl --env CartPole-v1 -n 300 --eval-freq -1"
    printed = zoo(f"{train} -optimize --n-trials 2 --n-evaluations 1 --no-optim-plots --sampler random --seed 1 {journal}")
    assert "Best trial" in printed
    assert "Loading from Optuna study" in zoo(f"{train} {journal} --trial-id 1")
    trained = (tmp_path / "logs" / "udrl").glob("CartPole-v1_*/CartPole-v1.zip")  # the search itself leaves an empty folder
    assert len(list(trained)) == 1


def test_track_is_rl_zoos_own(zoo: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "wandb.py").write_text(FAKE_WANDB)
    train = "rl_zoo3 train --algo gogepo --env CartPole-v1 -n 200 --eval-freq -1 --track --wandb-project-name mine"
    zoo(train, PYTHONPATH=str(tmp_path / "stub"))
    assert '"project": "mine", "sync_tensorboard": true' in (tmp_path / "wandb.json").read_text()
    assert list((tmp_path / "runs").rglob("events.out.tfevents*"))
