"""The runner: which cells, in which order, what is skipped, what is reported."""

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.run import __main__ as run
from benchmarks.run import local_runner
from benchmarks.run.layout import ROOT, Cell, read_json
from benchmarks.run.options import check_arguments
from benchmarks.run.progress import CellView, PlainDisplay, RichDisplay, describe_time
from benchmarks.run.tracks import settings_of
from tests.benchmarks.synthetic import write_cell

WORDS = ["--algos", "gogepo", "ars", "--envs", "CartPole-v1", "--seeds", "2", "--n-timesteps", "1e3"]


class FakeRunner:
    """Finishes each cell at once; those of ``failing`` do not."""

    def __init__(self, options, failing=(), n_jobs=2):
        self.options, self.failing, self.n_jobs = options, failing, n_jobs
        self.running, self.started, self.most = {}, [], 0

    def start(self, cell):
        self.running[cell] = True
        self.started.append(cell)
        self.most = max(self.most, len(self.running))

    def collect(self):
        ended = {cell: "exit status 1" if cell in self.failing else "" for cell in self.running}
        for cell, trouble in ended.items():
            if not trouble:
                write_cell(self.options.results, cell, [1.0], self.options.n_timesteps)
        self.running.clear()
        return ended

    def stop(self):
        self.running.clear()


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(
        track="paper",
        algos=["gogepo", "ars"],
        envs=["A", "B"],
        seeds=2,
        first_seed=5,
        n_timesteps=1000,
        eval_freq=1000,
        results=tmp_path / "results",
        work=tmp_path / "work",
    )


def test_first_seed_of_everything_first(options):
    cells = run.make_cells(options)
    assert cells[:4] == [Cell("paper", algo, env, 5) for env in "AB" for algo in ("gogepo", "ars")]
    assert {cell.seed for cell in cells[4:]} == {6}


def test_finished_cells_are_skipped(options):
    cells = run.make_cells(options)
    write_cell(options.results, cells[1], [1.0], 1000)
    write_cell(options.results, cells[2], [1.0], 1000, status="running")
    runner = FakeRunner(options)
    assert run.run_cells(cells, runner, options, PlainDisplay(), poll_seconds=0) == {}
    assert runner.started == [cell for cell in cells if cell != cells[1]]
    assert runner.most == 2
    runner = FakeRunner(options)
    run.run_cells(cells, runner, options, PlainDisplay(), poll_seconds=0)
    assert runner.started == []


def test_failures_are_told(options, capsys):
    cells = run.make_cells(options)
    failed = run.run_cells(cells, FakeRunner(options, failing=cells[:1]), options, PlainDisplay(), poll_seconds=0)
    assert failed == {cells[0]: "exit status 1"}
    printed = capsys.readouterr().out
    assert "paper/gogepo/A/5: failed" in printed
    assert "exit status 1" in printed
    assert "paper/ars/A/5: finished, 100% of 1,000 steps" in printed


def test_other_settings_are_named(options):
    cells = run.make_cells(options)
    as_asked = settings_of(cells[0], options)
    write_cell(options.results, cells[0], [1.0], **{**as_asked, "n_timesteps": 500})
    write_cell(options.results, cells[2], [1.0], **{**as_asked, "hyperparams": {"policy": "MlpPolicy", "n_envs": 2}})
    write_cell(options.results, cells[4], [1.0], **as_asked)
    write_cell(options.results, cells[6], [1.0], **{**as_asked, "defaults": {**as_asked["defaults"], "batch_size": 7}})
    write_cell(
        options.results, cells[1], [1.0], **{k: v for k, v in settings_of(cells[1], options).items() if k != "defaults"}
    )
    said = run.other_settings(cells, options)
    assert said[0] == "paper/gogepo/A/5: n_timesteps 500, not 1000"
    assert said[1].startswith("paper/gogepo/B/5: hyperparams {'policy': 'MlpPolicy', 'n_envs': 2}, not {")
    assert said[2] == "paper/gogepo/B/6: default of batch_size 7, not 20"
    assert len(said) == 3  # cells[1] was written before manifests had defaults


def test_progress_of_a_running_cell(options):
    cell = Cell("paper", "ars", "A", 0)
    view = CellView(cell, options)
    assert view.refresh() == "waiting"
    run_folder = options.work / cell.path
    run_folder.mkdir(parents=True)
    (run_folder / "progress.json").write_text('{"timesteps": 250, "train_seconds": 10.0, "last_return": 7.5}')
    view.is_running = True
    assert view.refresh() == "running"
    assert (view.share, view.seconds_left, view.last_return) == (0.25, 30, 7.5)
    assert describe_time(3723) == "1:02:03"


def test_bars_of_the_cells(options, capsys):
    pytest.importorskip("rich", reason="rich is not installed: pip install -e '.[plots]'")
    views = [CellView(Cell("paper", "ars", "A", seed), options) for seed in range(3)]
    views[0].state, views[0].timesteps = "finished", 1000
    views[2].state, views[2].timesteps, views[2].last_return = "running", 250, 7.5
    with RichDisplay(max_rows=2) as display:
        display.show(views[:1])
        display.show(views)
    printed = capsys.readouterr().out
    assert "1 finished, 1 running, 1 waiting of 3 cells" in printed
    assert "paper/ars/A/2: running, 25% of 1,000 steps, return 7.5" in printed
    assert "paper/ars/A/0" not in printed  # no room


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "--seeds and --jobs must be at least 1"),
        (["--n-timesteps", "nan"], "--n-timesteps must be a whole number above 0, got nan"),
        (["--n-timesteps", "0.5"], "--n-timesteps must be a whole number above 0, got 0.5"),
        (["--eval-freq", "0"], "--eval-freq must be a whole number above 0, got 0.0"),
        (["--eval-freq", "2000"], "--eval-freq must have an evaluation in the last tenth of 1,000 env steps, got 2000"),
        (["--eval-freq", "300"], "--eval-freq must have an evaluation in the last tenth of 1,000 env steps, got 300"),
        (["--threads", "0"], "--threads must be a finite number above 0, got 0"),
        (["--envs", "CartPole-v1", "Nope-v0"], "--envs must be registered Gymnasium ids, got 'Nope-v0'"),
        (["--algos", "ppo"], "algo must be one of"),
        (["--track", "best"], "track must be one of paper, tuned"),
    ],
)
def test_wrong_arguments(words, message, capsys):
    with pytest.raises(SystemExit):
        run.main([*WORDS, *words])
    assert message in capsys.readouterr().err


def test_trains_cells_in_processes(tmp_path, capsys):
    pytest.importorskip("rl_zoo3", reason="RL Zoo is not installed: pip install -e '.[zoo]'")
    words = ["--algos", "ars", "--envs", "CartPole-v1", "--seeds", "1", "--n-timesteps", "1000"]
    words += ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    assert run.main(words) == 0
    manifest = read_json(tmp_path / "results" / "paper" / "ars" / "CartPole-v1" / "0" / "manifest.json")
    assert manifest["status"] == "finished"
    assert manifest["sessions"][0]["hardware"]["threads"] == 1
    assert "1 of 1 cells are finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("n_timesteps", "eval_freq"), [(500, 500), (1999, 1999), (2500, 1250), (250_000, 2500), (3e6, 30_000)]
)
def test_default_of_eval_freq(n_timesteps, eval_freq):
    options = argparse.Namespace(n_timesteps=n_timesteps, eval_freq=None, threads=1, checkpoint_seconds=1)
    check_arguments(options)
    assert options.eval_freq == eval_freq


def test_what_is_named_twice_is_trained_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(run, "run_cells", lambda cells, *_: asked.extend(cells) or {})
    run.main([*WORDS, "--algos", "ars", "ars", "--results", str(tmp_path), "--work", str(tmp_path)])
    assert asked == [Cell("paper", "ars", "CartPole-v1", seed) for seed in (0, 1)]


def test_cells_get_their_number_of_threads(options, monkeypatch):
    started = []
    monkeypatch.setattr(local_runner.subprocess, "Popen", lambda words, env, **_: started.append(env))
    for name, value in dict(device="cpu", threads=3, checkpoint_seconds=300.0, jobs=1).items():
        setattr(options, name, value)
    local_runner.LocalRunner(options).start(run.make_cells(options)[0])
    assert [started[0][name] for name in local_runner.THREAD_VARIABLES] == ["3"] * len(local_runner.THREAD_VARIABLES)


def test_cells_end_with_the_runner(tmp_path):
    pytest.importorskip("rl_zoo3", reason="RL Zoo is not installed: pip install -e '.[zoo]'")
    words = ["--algos", "ars", "--envs", "CartPole-v1", "--n-timesteps", "1e8", "--results", "results", "--work", "work"]
    cell = Cell("paper", "ars", "CartPole-v1", 0)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.run", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "work" / cell.path / "progress.json").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    with (tmp_path / "work" / cell.path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it any more
    assert read_json(tmp_path / "results" / cell.path / "manifest.json")["status"] == "interrupted"


def test_ray_that_is_not_installed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        run.main([*WORDS, "--ray", "--results", str(tmp_path), "--work", str(tmp_path)])
    assert "--ray needs Ray: pip install" in capsys.readouterr().err


@pytest.mark.slow
def test_trains_cells_on_ray(tmp_path):
    pytest.importorskip("rl_zoo3", reason="RL Zoo is not installed: pip install -e '.[zoo]'")
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    words = ["--algos", "ars", "sac", "--envs", "CartPole-v1", "--n-timesteps", "1000", "--ray", "local"]  # sac needs a Box
    words += ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    cell = Cell("paper", "ars", "CartPole-v1", 0)
    write_cell(tmp_path / "results", cell, [1.0], 1000, status="running")  # begun on this machine, with a resume point
    stale = tmp_path / "work" / cell.path / "checkpoint" / "state.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    assert run.main(words) == 1
    assert not stale.exists()
    status = {
        algo: read_json(tmp_path / "results" / "paper" / algo / "CartPole-v1" / "0" / "manifest.json")["status"]
        for algo in ("ars", "sac")
    }
    assert status == {"ars": "finished", "sac": "failed"}
    assert (tmp_path / "results" / "paper" / "ars" / "CartPole-v1" / "0" / "curve.csv").exists()
    assert "Discrete" in (tmp_path / "work" / "paper" / "sac" / "CartPole-v1" / "0" / "log.txt").read_text()
