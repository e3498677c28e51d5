"""A cell trains with RL Zoo, writes what it measures, and goes on after a kill."""

import argparse
import fcntl
import json
import shlex
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import gymnasium as gym
import pytest
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.run import manifest
from benchmarks.run.layout import CHECKPOINTS, CURVE_COLUMNS, N_EVAL_EPISODES, Cell, read_json, read_rows, write_json
from benchmarks.run.recording import Clock, CurveCallback, Record
from benchmarks.run.resume import find_resume_point, prepare_loaded
from benchmarks.run.tracks import settings_of
from tests.benchmarks.synthetic import write_cell

pytest.importorskip("rl_zoo3", reason="RL Zoo is not installed: pip install -e '.[zoo]'")
ROOT = Path(__file__).parents[2]
N_TIMESTEPS, EVAL_FREQ = 2000, 500

# Trains several cells in one process, since importing RL Zoo takes longer than the training. With a number of steps to
# kill at, a resume point is written before each iteration, and the process gets a signal there.
SCRIPT = """
import json, os, signal, sys
from benchmarks.run import cell
from benchmarks.run import recording, resume, tracks

calls, kill_at, signal_number = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
small = dict(policy_kwargs=dict(net_arch=[8]), buffer_size=1000, learning_starts=250, train_freq=[1, "episode"])
tracks.tracks()["paper"]["td3"]["hyperparams"].update(small)
learn = cell.CellManager.learn

def tell(self, model):
    stored = [model.replay_buffer.size(), "stored"] if self.algo == "td3" else []
    print(model.num_timesteps, "steps", model._n_updates, "updates", *stored)

def learn_and_tell(self, model):
    tell(self, model)
    learn(self, model)
    tell(self, model)

cell.CellManager.learn = learn_and_tell
if kill_at:
    resume.CHECKPOINT_SHARE = 1e9
    on_step = recording.ProgressCallback._on_step

    def die(self):
        if self.num_timesteps >= kill_at:
            os.kill(os.getpid(), signal_number)
        return on_step(self)

    recording.ProgressCallback._on_step = die
for arguments in calls:
    cell.main(arguments)
"""


def arguments(folder, algo, env="CartPole-v1", **options):
    given = {"--n-timesteps": N_TIMESTEPS, "--eval-freq": EVAL_FREQ, "--checkpoint-seconds": 1e-6, **options}
    words = ["--algo", algo, "--env", env, "--seed", "3", "--results", folder / "results", "--work", folder / "work"]
    return [str(word) for word in [*words, *(word for pair in given.items() for word in pair)]]


def call(*calls, kill_at=0, signal_number=signal.SIGKILL):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(calls), str(kill_at), str(int(signal_number))],
        cwd=ROOT,
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
    """A gogepo cell without interruption, one that was killed, terminated and continued, one that failed, and ARS's."""
    folder = tmp_path_factory.mktemp("the cells")
    killed = call(arguments(folder / "killed", "gogepo"), kill_at=1200)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    point = find_resume_point(folder / "killed" / "work" / "paper" / "gogepo" / "CartPole-v1" / "3" / CHECKPOINTS)
    assert 1000 <= point.state["num_timesteps"] <= 1200
    known = files_of(folder / "killed", "gogepo")
    assert [read_json(known / "manifest.json")[name] for name in ("status", "timesteps")] == ["running", 1000]
    refused = call(arguments(folder / "killed", "gogepo", **{"--n-timesteps": 1500}))
    assert "unfinished with other settings (n_timesteps 2000, not 1500)" in refused.stderr
    assert len(read_rows(known / "curve.csv")) == 2  # nothing is lost
    terminated = call(arguments(folder / "killed", "gogepo"), kill_at=1600, signal_number=signal.SIGTERM)
    assert "KeyboardInterrupt" in terminated.stderr
    interrupted = read_json(known / "manifest.json")
    assert interrupted["status"] == "interrupted"
    assert interrupted["timesteps"] >= 1600
    done = call(
        arguments(folder / "whole", "gogepo"),
        arguments(folder / "whole", "gogepo", **{"--n-timesteps": 1500}),  # finished: nothing happens
        arguments(folder / "killed", "gogepo"),
        arguments(folder / "whole", "ars"),
        arguments(folder / "whole", "sac"),  # needs a Box: fails
    )
    assert done.returncode == 1
    assert "paper/gogepo/CartPole-v1/3 is finished with other settings (n_timesteps 2000, not 1500), and left" in done.stdout
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
        assert shlex.split(session["command"])[3:] == arguments(folder / "whole", algo)
    assert manifest["defaults"] == {}  # ARS's: its version tells
    assert (folder / "whole" / "work" / "paper" / "ars" / "CartPole-v1" / "3" / "vecnormalize.pkl").exists()


def test_killed_and_continued_equals_uninterrupted(folder):
    whole, killed = files_of(folder / "whole", "gogepo"), files_of(folder / "killed", "gogepo")
    assert without_seconds(killed) == without_seconds(whole)
    assert (killed / "training.csv").read_bytes() == (whole / "training.csv").read_bytes()
    assert parameters(folder / "killed", "gogepo") == parameters(folder / "whole", "gogepo")
    one, two = read_json(whole / "manifest.json"), read_json(killed / "manifest.json")
    for name in ("status", "timesteps", "env_steps", "hyperparams"):
        assert one[name] == two[name]
    assert [session["from_timesteps"] > 0 for session in two["sessions"]] == [False, True, True]
    assert [session["resume"] for session in two["sessions"]] == [None, "exact", "exact"]


@pytest.mark.parametrize("algo", ["td3", "ars"])
def test_killed_cells_of_sb3_go_on(tmp_path, algo):
    """With all they have learned, and the replay buffer; what was measured after the resume point is measured again."""
    options = {"--n-timesteps": 1000, "--eval-freq": 200}
    if algo == "ars":  # 16 episodes of 200 steps an iteration
        options = {"--n-timesteps": 7000, "--eval-freq": 1000}
    kill_at = options["--n-timesteps"] - 100
    killed = call(arguments(tmp_path, algo, "Pendulum-v1", **options), kill_at=kill_at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    path = Cell("paper", algo, "Pendulum-v1", 3).path
    point = find_resume_point(tmp_path / "work" / path / CHECKPOINTS)
    before = read_rows(tmp_path / "results" / path / "curve.csv")
    assert before[-1][0] == kill_at // options["--eval-freq"] * options["--eval-freq"]
    done = call(arguments(tmp_path, algo, "Pendulum-v1", **options))
    assert done.returncode == 0, done.stderr
    told = {
        "td3": ["800 steps 3 updates 800 stored", "1000 steps 4 updates 1000 stored"],
        "ars": ["6400 steps 2 updates", "9600 steps 3 updates"],
    }
    assert [line for line in done.stdout.splitlines() if " updates" in line] == told[algo]
    steps = point.state["num_timesteps"]
    manifest = read_json(tmp_path / "results" / path / "manifest.json")
    assert manifest["status"] == "finished"
    assert [session["from_timesteps"] for session in manifest["sessions"]] == [0, steps]
    assert [session["resume"] for session in manifest["sessions"]] == [None, "not bit-equal"]
    assert manifest["env_steps"] == manifest["timesteps"] >= options["--n-timesteps"]
    curve, training = (read_rows(tmp_path / "results" / path / name) for name in ("curve.csv", "training.csv"))
    every = options["--eval-freq"]
    assert [row[0] for row in curve] == list(range(every, options["--n-timesteps"] + 1, every))
    kept = [row for row in before if row[0] <= steps]
    assert curve[: len(kept)] == kept
    assert sum(row[1] for row in training) * 200 == manifest["env_steps"]
    assert not (tmp_path / "work" / path / CHECKPOINTS).exists()


def test_what_load_forgets(tmp_path):
    """ARS goes on from its policy's weights, not from new ones; no run has the random numbers of its beginning again."""
    from sb3_contrib import ARS

    model = ARS("MlpPolicy", "CartPole-v1", n_delta=1, seed=3, zero_policy=False).learn(50)
    model.save(tmp_path / "model.zip")
    loaded = ARS.load(tmp_path / "model.zip", env=model.get_env(), seed=3)
    assert not loaded.weights.equal(model.weights)
    first_start = loaded.get_env().reset()
    prepare_loaded(loaded)
    assert loaded.weights.equal(model.weights)
    assert (loaded.get_env().reset() != first_start).all()
    loaded.learn(50, reset_num_timesteps=False)
    assert loaded._n_updates > model._n_updates


def test_finished_cell_keeps_no_checkpoint(folder):
    for name in ("whole", "killed"):
        work = folder / name / "work" / "paper" / "gogepo" / "CartPole-v1" / "3"
        assert not (work / "checkpoint").exists()
        assert (work / "model.zip").exists()


def test_failure_is_recorded(folder):
    manifest = read_json(files_of(folder / "whole", "sac") / "manifest.json")
    assert manifest["status"] == "failed"
    assert "Discrete" in manifest["error"]


def test_no_resume_point(tmp_path):
    """None in an empty folder, in a missing one, or where the first one was being written."""
    assert find_resume_point(tmp_path / "elsewhere") is None
    write_json(tmp_path / ".checkpoint_x" / "state.json", {"num_timesteps": 7})
    assert find_resume_point(tmp_path) is None


def test_only_one_process_works_on_a_cell(tmp_path, capsys):
    """While another one holds the lock, it waits, and then sees what that one has done."""
    from benchmarks.run.cell import train

    cell = Cell("paper", "ars", "CartPole-v1", 0)
    options = argparse.Namespace(results=tmp_path / "results", work=tmp_path / "work", n_timesteps=1000, eval_freq=1000)
    lock = options.work / cell.path / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        thread = threading.Thread(target=train, args=(cell, options))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        write_cell(options.results, cell, [1.0], **settings_of(cell, options))
    thread.join()
    assert capsys.readouterr().out == "paper/ars/CartPole-v1/0 is finished\n"


def test_clock_stands_still_while_paused():
    clock = Clock(wall=100.0)
    clock.start()
    with clock.paused():
        time.sleep(0.3)
    assert 100 <= clock.read()[0] < 100.25


def test_evaluations_are_off_the_clock(tmp_path, monkeypatch):
    def evaluate(self):
        time.sleep(0.3)
        self.evaluations_results, self.evaluations_length = [[1.0] * N_EVAL_EPISODES], [[9] * N_EVAL_EPISODES]
        return True

    monkeypatch.setattr(EvalCallback, "_on_step", evaluate)
    env = DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1"))] * N_EVAL_EPISODES)
    record, reported = Record(tmp_path), []
    callback = CurveCallback(
        env, record, every=100, n_timesteps=1000, log_path=str(tmp_path), report=lambda: reported.append(len(record.curve))
    )
    callback.model = argparse.Namespace(get_env=lambda: env)
    callback._on_training_start()
    callback.num_timesteps = 100
    assert callback._on_step()
    assert record.eval_seconds >= 0.3
    assert record.clock.read()[0] < 0.25
    assert reported == [1]  # once it is in the curve


def test_commit_says_whether_the_code_differs(tmp_path, monkeypatch):
    def git(*words):
        author = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
        return subprocess.run(["git", "-C", tmp_path, *author, *words], capture_output=True, text=True, check=True).stdout

    monkeypatch.setattr(manifest, "ROOT", tmp_path)
    assert manifest.commit() == "unknown"
    for name in ("sb3_gogepo/a.py", "benchmarks/results/b.csv"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    clean = git("rev-parse", "HEAD").strip()
    (tmp_path / "benchmarks" / "results" / "b.csv").write_text("2")
    (tmp_path / "notes.txt").write_text("not code")
    assert manifest.commit() == clean
    (tmp_path / "benchmarks" / "new.py").write_text("1")
    assert manifest.commit() == clean + "+dirty"
    (tmp_path / "benchmarks" / "new.py").unlink()
    (tmp_path / "sb3_gogepo" / "a.py").write_text("2")
    assert manifest.commit() == clean + "+dirty"


def test_peak_memory_is_of_this_process_alone():
    """Not of the one that started it, which a fork has the size of."""
    block = bytearray(300 * 2**20)
    block[:: 2**12] = b"1" * len(block[:: 2**12])  # touch every page
    code = "from benchmarks.run.manifest import peak_memory_mb; print(peak_memory_mb())"
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    here = manifest.peak_memory_mb()
    assert here >= 300
    assert int(child.stdout) <= here - 200
