"""The runner: which cells, in which order, what is skipped, what is reported."""

import argparse

import pytest

from benchmarks import run
from benchmarks.layout import Cell, read_json
from benchmarks.progress import CellView, PlainDisplay, describe_time
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
    assert run.run_cells(cells, runner, options, PlainDisplay(), poll_seconds=0) == []
    assert runner.started == [cell for cell in cells if cell != cells[1]]
    assert runner.most == 2
    runner = FakeRunner(options)
    run.run_cells(cells, runner, options, PlainDisplay(), poll_seconds=0)
    assert runner.started == []


def test_failures_are_told(options, capsys):
    cells = run.make_cells(options)
    failed = run.run_cells(cells, FakeRunner(options, failing=cells[:1]), options, PlainDisplay(), poll_seconds=0)
    assert failed == cells[:1]
    printed = capsys.readouterr().out
    assert "paper/gogepo/A/5: failed" in printed
    assert "exit status 1" in printed
    assert "paper/ars/A/5: finished, 100% of 1,000 steps" in printed


def test_other_lengths_are_named(options):
    cells = run.make_cells(options)
    write_cell(options.results, cells[0], [1.0], 500)
    assert run.other_lengths(cells, options) == ["paper/gogepo/A/5 (500 steps)"]


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "--seeds and --jobs must be at least 1"),
        (["--n-timesteps", "nan"], "--n-timesteps must be a finite number above 0, got nan"),
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


@pytest.mark.slow
def test_trains_cells_on_ray(tmp_path):
    pytest.importorskip("rl_zoo3", reason="RL Zoo is not installed: pip install -e '.[zoo]'")
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    words = ["--algos", "ars", "sac", "--envs", "CartPole-v1", "--n-timesteps", "1000", "--ray", "local"]  # sac needs a Box
    words += ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    assert run.main(words) == 1
    status = {
        algo: read_json(tmp_path / "results" / "paper" / algo / "CartPole-v1" / "0" / "manifest.json")["status"]
        for algo in ("ars", "sac")
    }
    assert status == {"ars": "finished", "sac": "failed"}
    assert (tmp_path / "results" / "paper" / "ars" / "CartPole-v1" / "0" / "curve.csv").exists()
    assert "Discrete" in (tmp_path / "work" / "paper" / "sac" / "CartPole-v1" / "0" / "log.txt").read_text()
