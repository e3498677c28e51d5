"""A cell trains with RL Zoo, writes what it measures, and goes on exactly after a kill."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks.layout import CURVE_COLUMNS, Cell, read_json, read_rows, write_json
from benchmarks.recording import find_resume_point

pytest.importorskip("rl_zoo3", reason="RL Zoo is not installed: pip install -e '.[zoo]'")
ROOT = Path(__file__).parents[2]
N_TIMESTEPS, EVAL_FREQ = 2000, 500

# Trains several cells in one process, since importing RL Zoo takes longer than the training. With a number of steps to
# kill at, a resume point is written before each iteration, and the process dies there.
SCRIPT = """
import json, os, signal, sys
from benchmarks import cell, recording

calls, kill_at = json.loads(sys.argv[1]), int(sys.argv[2])
if kill_at:
    recording.CHECKPOINT_SHARE = 1e9
    on_step = recording.ProgressCallback._on_step

    def die(self):
        if self.num_timesteps >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return on_step(self)

    recording.ProgressCallback._on_step = die
for arguments in calls:
    cell.main(arguments)
"""


def arguments(folder, algo, **options):
    given = {"--n-timesteps": N_TIMESTEPS, "--eval-freq": EVAL_FREQ, "--checkpoint-seconds": 1e-6, **options}
    words = ["--algo", algo, "--env", "CartPole-v1", "--seed", "3", "--results", folder / "results", "--work", folder / "work"]
    return [str(word) for word in [*words, *(word for pair in given.items() for word in pair)]]


def call(*calls, kill_at=0):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(calls), str(kill_at)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def files_of(folder, algo):
    return folder / "results" / Cell("paper", algo, "CartPole-v1", 3).path


def without_seconds(path):
    return [[*row[:2], *row[4:]] for row in read_rows(path / "curve.csv")]


def parameters(folder, algo):
    model = folder / "work" / Cell("paper", algo, "CartPole-v1", 3).path / "model.zip"
    with zipfile.ZipFile(model) as archive:
        return archive.read("policy.pth")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One gogepo cell without interruption, one that was killed and continued, one that failed, one of another library."""
    folder = tmp_path_factory.mktemp("cells")
    killed = call(arguments(folder / "killed", "gogepo"), kill_at=1200)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    point = read_json(folder / "killed" / "work" / "paper" / "gogepo" / "CartPole-v1" / "3" / "checkpoint" / "state.json")
    assert 1000 <= point["num_timesteps"] <= 1200
    known = files_of(folder / "killed", "gogepo")
    assert read_json(known / "manifest.json")["status"] == "running"
    refused = call(arguments(folder / "killed", "gogepo", **{"--n-timesteps": 1500}))
    assert "unfinished with other settings (n_timesteps 2000, not 1500)" in refused.stderr
    assert len(read_rows(known / "curve.csv")) == 2  # nothing is lost
    done = call(
        arguments(folder / "whole", "gogepo"),
        arguments(folder / "whole", "gogepo"),  # finished: nothing happens
        arguments(folder / "killed", "gogepo"),
        arguments(folder / "whole", "ars"),
        arguments(folder / "whole", "sac"),  # needs a Box: fails
    )
    assert done.returncode == 1
    assert "paper/gogepo/CartPole-v1/3 is finished" in done.stdout
    return folder


def test_writes_curve_training_and_manifest(folder):
    for algo in ("gogepo", "ars"):
        path = files_of(folder / "whole", algo)
        curve, training = read_rows(path / "curve.csv"), read_rows(path / "training.csv")
        manifest = read_json(path / "manifest.json")
        assert [row[0] for row in curve] == [500, 1000, 1500, 2000]
        assert all(len(row) == len(CURVE_COLUMNS) for row in curve)
        assert manifest["status"] == "finished"
        assert manifest["timesteps"] == manifest["env_steps"] >= N_TIMESTEPS
        assert manifest["train_seconds"] >= curve[-1][2] > curve[0][2] > 0
        assert manifest["train_cpu_seconds"] > 0
        assert manifest["peak_memory_mb"] > 50
        # episodes times their mean length are the steps: none is missing, none counted twice
        assert sum(row[1] * row[-1] for row in training) == pytest.approx(manifest["env_steps"], rel=1e-4)
        (session,) = manifest["sessions"]
        assert session["versions"]["stable_baselines3"]
        assert session["hardware"]["threads"] == 1


def test_killed_and_continued_equals_uninterrupted(folder):
    whole, killed = files_of(folder / "whole", "gogepo"), files_of(folder / "killed", "gogepo")
    assert without_seconds(killed) == without_seconds(whole)
    assert (killed / "training.csv").read_bytes() == (whole / "training.csv").read_bytes()
    assert parameters(folder / "killed", "gogepo") == parameters(folder / "whole", "gogepo")
    one, two = read_json(whole / "manifest.json"), read_json(killed / "manifest.json")
    for name in ("status", "timesteps", "env_steps", "hyperparams"):
        assert one[name] == two[name]
    assert [session["from_timesteps"] > 0 for session in two["sessions"]] == [False, True]


def test_finished_cell_keeps_no_checkpoint(folder):
    for name in ("whole", "killed"):
        work = folder / name / "work" / "paper" / "gogepo" / "CartPole-v1" / "3"
        assert not (work / "checkpoint").exists()
        assert (work / "model.zip").exists()


def test_failure_is_recorded(folder):
    manifest = read_json(files_of(folder / "whole", "sac") / "manifest.json")
    assert manifest["status"] == "failed"
    assert "Discrete" in manifest["error"]


def test_a_swap_that_was_interrupted_leaves_a_resume_point(tmp_path):
    """The old point is moved away, the new one not yet in its place."""
    old = tmp_path / "checkpoint.old"
    write_json(old / "state.json", {"num_timesteps": 7})
    (tmp_path / "checkpoint.new").mkdir()
    found = find_resume_point(tmp_path / "checkpoint")
    assert found == (old / "model.zip", {"num_timesteps": 7})
    assert find_resume_point(tmp_path / "elsewhere") is None
