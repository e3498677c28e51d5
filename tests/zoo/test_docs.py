"""Every command of docs/rl_zoo.md, in the page's order and in one folder, with small budgets."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .conftest import ROOT, environment, run

#: `all_plots` wants equally many evaluations of all runs: 2, since the last episode, of up to 1000 steps, ends before a third
SMALLER = (
    (r"(train .*--env \S+)(?!.* -n )", r"\1 -n 2200"),
    (r"-n 50000", r"-n 300"),
    (r"(record_\w+ .*)-n \d+", r"\1-n 2"),  # frames: drawn on the CPU, a second each
    (r"--eval-freq \d+", r"--eval-freq 1100"),
    (r"--save-freq \d+", r"--save-freq 200"),
    (r"--load-checkpoint \d+", r"--load-checkpoint 200"),
    (r"-max \d+", r"-max 5000"),
    (r"n_envs:\d+", r"n_envs:2"),
    (r"--n-trials \d+", r"--n-trials 2 --n-evaluations 1"),
    (r"(benchmark --log-dir) logs(.*)", r"\1 downloads\2 -n 300"),  # one model, not all
    (r"(.*--trial-id \d+)", r"\1 --eval-freq 1100"),  # the newest run, which is uploaded
)
NEEDS_GL = "MUJOCO_GL="
#: what stands in for the Hub; Python imports a module of this name at start-up
FAKE_HUB = """
import pathlib, shutil, huggingface_hub

def hf_hub_download(repo_id, filename, **kwargs):
    path = pathlib.Path("uploaded", filename)
    if not path.is_file():
        from huggingface_hub import errors

        missing = getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)  # before huggingface_hub 1.0
        raise missing.__new__(missing, f"{filename} is not in {repo_id}")  # its constructor wants a HTTP response
    return str(path)

class HfApi:
    def create_repo(self, repo_id, **kwargs):
        return f"https://huggingface.co/{repo_id}"

    def snapshot_download(self, repo_id, local_dir):
        pathlib.Path(local_dir).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, "uploaded")

huggingface_hub.HfApi, huggingface_hub.hf_hub_download = HfApi, hf_hub_download
"""


def documented_commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "docs" / "rl_zoo.md").read_text(), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def smaller(command: str) -> str:
    for pattern, replacement in SMALLER:
        command = re.sub(pattern, replacement, command)
    return command


def test_each_command_of_the_issue_is_documented() -> None:
    commands = documented_commands()
    assert "rl_zoo3 train --algo gogepo --env Hopper-v3" in commands
    assert "rl_zoo3 enjoy --algo gogepo --env Hopper-v3 -f logs --no-render" in commands


def test_documented_commands(zoo: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "hub_stub").mkdir()
    (tmp_path / "hub_stub" / "sitecustomize.py").write_text(FAKE_HUB)
    printed = {}
    for command in documented_commands():
        if not command.startswith(NEEDS_GL):
            variables = {"PYTHONPATH": str(tmp_path / "hub_stub")} if "_hub" in command else {}
            printed[command] = zoo(smaller(command), **variables)

    logs = tmp_path / "logs" / "gogepo"
    trained = logs / "Hopper-v3_2"
    expected = {"Hopper-v3.zip", "best_model.zip", "rl_model_200_steps.zip", "replay_buffer.pkl", "evaluations.npz"}
    assert expected <= {path.name for path in trained.iterdir()}
    assert list((tmp_path / "tensorboard").rglob("events.out.tfevents*"))
    assert np.load(trained / "evaluations.npz")["results"].shape[1] == 5
    assert {path.name for path in (logs / "Hopper-v3_3").glob("*.csv")} == {"0.monitor.csv", "1.monitor.csv"}

    def output(*parts: str) -> str:
        return next(text for command, text in printed.items() if all(part in command for part in parts))

    assert "presets/gogepo.yml" in output("rl_zoo3 train")
    assert "Mean reward" in output("rl_zoo3 enjoy")
    assert "best_model.zip" in output("enjoy", "--load-best")
    assert "rl_model_200_steps.zip" in output("enjoy", "--load-checkpoint")
    assert "Mean reward" in output("--command")
    assert "Loading replay buffer" in output(" -i ", "train")
    assert len(list(logs.glob("report_Hopper-v3_2-trials*.csv"))) == 1
    assert "Loading from Optuna study" in output("--trial-id")
    assert "GOGEPO" in output("all_plots")
    assert (tmp_path / "scores.svg").stat().st_size > 1000
    assert "gogepo" in (tmp_path / "benchmark" / "benchmark.md").read_text()
    check_model_card(tmp_path / "uploaded")
    assert "holds what would be uploaded" in output("--dry-run")
    assert "No normalization file" in output("load_from_hub")
    downloaded = tmp_path / "downloads" / "gogepo" / "Hopper-v3_1"
    assert {"Hopper-v3.zip", "0.monitor.csv", "evaluations.npz"} <= {path.name for path in downloaded.iterdir()}
    assert "Mean reward" in output("enjoy", "-f downloads")


def check_model_card(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert "# **GoGePo** Agent playing **Hopper-v3**" in card
    assert "python -m rl_zoo3.enjoy --algo gogepo --env Hopper-v3" in card
    assert "'alive_bonus_offset', -1" in card
    assert 'pip install "sb3-gogepo[zoo]"' in card
    assert "pip install rl_zoo3" not in card
    assert "model-index" in card
    assert "![Achieved over commanded return](report/commands.png)" in card
    assert (folder / "report" / "index.html").is_file()
    assert {"gogepo-Hopper-v3.zip", "config.yml", "args.yml", "results.json"} <= {path.name for path in folder.iterdir()}


def test_documented_videos(zoo: Callable[..., str], tmp_path: Path) -> None:
    probe = run("MUJOCO_GL=egl python -c 'import mujoco; mujoco.GLContext(64, 64)'", cwd=tmp_path, check=False)
    if probe.returncode != 0:
        pytest.skip("there is no EGL to draw with on this machine")
    ffmpeg = shutil.which("ffmpeg") or find_ffmpeg_of_imageio()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ffmpeg").symlink_to(ffmpeg)
    path = os.pathsep.join([str(tmp_path / "bin"), environment()["PATH"]])
    zoo("rl_zoo3 train --algo gogepo --env Hopper-v3 -n 100 --eval-freq -1 --save-freq 50")
    for command in documented_commands():
        if command.startswith(NEEDS_GL):
            zoo(smaller(command), PATH=path)
    videos = {path.name for path in (tmp_path / "logs" / "gogepo" / "Hopper-v3_1" / "videos").glob("*.mp4")}
    assert "training.mp4" in videos
    assert {name.split("-")[0] for name in videos} == {"training.mp4", "checkpoint", "final"}
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == 1


def find_ffmpeg_of_imageio() -> str:
    """RL Zoo depends on moviepy, which brings one."""
    return pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
