"""How closely commands are met: tiny cells from training to the docs' table, and the committed table."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.commands import tables
from benchmarks.commands.__main__ import main, make_parser
from benchmarks.commands.cells import HIDDEN, PLAIN, settings_of
from benchmarks.commands.measure import N_COMMANDS, N_COMMANDS_CALIBRATION, N_TARGETS, run_cell
from benchmarks.commands.training import make_kind
from benchmarks.run.layout import ACTOR_COLUMNS, N_TIME_COLUMNS, Cell, read_json, read_rows, write_json

ROOT = Path(__file__).parents[2]
ENV = "Pendulum-v1"


def options_for(folder, *words):
    return make_parser().parse_args(["cell", *words, "--results", f"{folder}/results", "--work", f"{folder}/work"])


def make_cell(folder, track, algo, n_timesteps=2000, seed=0):
    words = [track, algo, ENV, str(seed), "1", "2", "--n-timesteps", str(n_timesteps)]
    run_cell(Cell(track, algo, ENV, seed), options_for(folder, *words))
    return folder / "results" / track / algo / ENV / f"{seed}.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every algorithm that needs no range of returns, and both generators without a band."""
    folder = tmp_path_factory.mktemp("commands")
    for track, algos in ((PLAIN, ("gogepo", "udrlpg", "udrl")), (HIDDEN, ("gogepo", "udrlpg"))):
        for algo in algos:
            make_cell(folder, track, algo)
    return folder


def test_a_cell_holds_both_protocols_and_where_it_comes_from(made):
    content = read_json(made / "results" / PLAIN / "gogepo" / ENV / "0.json")
    for kind in ("trained", "calibrated"):
        assert len(content[kind]["range"]["mean_returns"]) == N_COMMANDS
        assert len(content[kind]["percentiles"]["mean_returns"]) == N_TARGETS
        assert np.allclose(np.array(content[kind]["range"]["commands"])[[0, -1]], content["command_range"])
    assert content["calibration"]["env_steps"] == N_COMMANDS_CALIBRATION * 2 * 200
    (session,) = content["sessions"]
    assert {"commit", "versions", "hardware"} <= session.keys()
    assert "calibrated" not in read_json(made / "results" / PLAIN / "udrl" / ENV / "0.json")


def test_the_report_names_what_is_there_and_what_is_missing(made):
    assert main(["report", "--results", str(made / "results"), "--docs", str(made / "docs")]) == 0
    text = (made / "docs" / "benchmarks" / "commands.md").read_text()
    assert f"| {ENV} | `udrlpg` | 2k | 0 |" in text
    assert f"{ENV} (1, 2, 3, 4)" in text
    assert "`gogepo-paper`: Swimmer-v3, Hopper-v3" in text
    pictures = {path.name for path in (made / "docs" / "figures" / "benchmarks").iterdir()}
    assert pictures == {"commands.png", "commands_others.png", "commands_hidden.png", "commands_fidelity.png"}


def test_commands_without_the_bonus_do_not_stand_beside_returns_with_it(made, tmp_path):
    for path in (made / "results" / PLAIN).glob("*/*/*.json"):
        content = read_json(path)
        content["hyperparams"]["alive_bonus_offset"] = -1
        there = tmp_path / "results" / path.relative_to(made / "results")
        there.parent.mkdir(parents=True, exist_ok=True)
        write_json(there, content)
    assert main(["report", "--results", str(tmp_path / "results"), "--docs", str(tmp_path)]) == 0
    text = (tmp_path / "benchmarks" / "commands.md").read_text()
    assert "<!-- fidelity -->\n\nNot measured yet." in text
    assert not (tmp_path / "figures" / "benchmarks" / "commands_fidelity.png").exists()


def test_a_finished_cell_is_left_alone(made, capsys):
    path = made / "results" / PLAIN / "gogepo" / ENV / "0.json"
    before = path.read_text()
    make_cell(made, PLAIN, "gogepo", n_timesteps=4000)
    assert "finished with other settings (n_timesteps 2000, not 4000)" in capsys.readouterr().out
    assert path.read_text() == before


def test_what_the_comparison_has_trained_is_measured_and_not_trained_again(tmp_path):
    words = [sys.executable, "-m", "benchmarks.run.cell", "--algo", "gogepo-critic", "--env", ENV, "--seed", "0"]
    words += ["--n-timesteps", "2000", "--eval-freq", "1000", "--results", tmp_path / "one" / "results"]
    words = [*map(str, words), "--work", str(tmp_path / "one" / "work")]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=300)
    compared = tmp_path / "one" / "results" / "paper" / "gogepo-critic" / ENV / "0"
    actor, curve = read_rows(compared / "actor.csv"), read_rows(compared / "curve.csv")
    assert [row[0] for row in actor] == [row[0] for row in curve] == [1000, 2000]
    assert all(len(row) == len(ACTOR_COLUMNS) for row in actor)
    assert actor[1][1:] != curve[1][N_TIME_COLUMNS:]  # another policy
    one, other = (read_json(make_cell(tmp_path / name, PLAIN, "gogepo-critic")) for name in ("one", "two"))
    assert one.pop("sessions") == read_json(compared / "manifest.json")["sessions"]
    assert other.pop("sessions")[0]["from_timesteps"] == 0
    assert {**one, "measure_seconds": 0} == {**other, "measure_seconds": 0}


def test_no_policy_of_a_hidden_return_is_stored():
    model = make_kind("gogepo", (-1500.0, -1200.0))(env=ENV, seed=0, device="cpu", prune_after=None).learn(4000)
    returns = model.replay_buffer.stored_returns
    assert 0 < len(returns) < model._episode_num
    assert not np.any((returns >= -1500) & (returns <= -1200))


def test_all_returns_may_be_hidden():
    model = make_kind("udrlpg", (-1e9, 0.0))(env=ENV, seed=0, device="cpu").learn(1000)
    assert not len(model.replay_buffer)
    assert model.command_range[0] < model.command_range[1]


def test_a_cell_that_was_stopped_ends_as_if_it_had_not_been(tmp_path):
    n_timesteps = 6000
    words = [sys.executable, "-m", "benchmarks.commands", "cell", PLAIN, "gogepo", ENV, "0", "1", "1"]
    words += ["--n-timesteps", str(n_timesteps), "--results", f"{tmp_path}/results", "--work", f"{tmp_path}/work"]
    process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    checkpoints = tmp_path / "work" / PLAIN / "gogepo" / ENV / "0" / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("checkpoint_*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.wait()
    path = tmp_path / "results" / PLAIN / "gogepo" / ENV / "0.json"
    assert not path.exists()
    with pytest.raises(ValueError, match="unfinished with other settings"):
        make_cell(tmp_path, PLAIN, "gogepo", n_timesteps=n_timesteps + 1)
    options = ["--n-timesteps", str(n_timesteps)]
    cell = Cell(PLAIN, "gogepo", ENV, 0)
    for folder in (tmp_path, tmp_path / "whole"):
        run_cell(cell, options_for(folder, *map(str, cell), "1", "1", *options))
    whole_path = tmp_path / "whole" / path.relative_to(tmp_path)
    stopped, whole = read_json(path), read_json(whole_path)
    assert len(stopped["sessions"]) == 2
    assert stopped["sessions"][1]["from_timesteps"] > 0
    assert stopped["trained"] == whole["trained"]


def test_run_starts_processes_and_counts_those_that_fail(tmp_path, capfd):
    words = ["run", "--envs", ENV, "--seeds", "1", "--n-timesteps", "600", "--episodes", "1", "1"]
    words += ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    assert main([*words, "--hidden"]) == 1  # what to hide is not known yet
    assert "the range of Pendulum-v1 must be known" in capfd.readouterr().err
    assert main(words) == 0
    assert "1 of 1 cells are finished" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--envs", "CartPole-v1"], "--envs must be of Swimmer-v3, .*got 'CartPole-v1'"),
        (["--algos", "gogepo-paper", "--envs", ENV], "env must be one of Swimmer"),
        (["--algos", "udrl", "--envs", ENV, "--hidden"], "--hidden is for gogepo, udrlpg"),
        (["--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["--episodes", "0", "1"], "--episodes must be two numbers above 0"),
    ],
)
def test_bad_options_are_named(words, message, capsys):
    with pytest.raises(SystemExit):
        main(["run", *words])
    assert re.search(message, capsys.readouterr().err)


def synthetic(env="Swimmer-v3", algo="gogepo", seed=0, slope=1.0, offset=0.0, **more):
    commands = np.linspace(0, 100, 21)
    achieved = {
        "commands": commands.tolist(),
        "mean_returns": (offset + slope * commands).tolist(),
        "std_returns": [0.0] * 21,
        "mean_lengths": [1.0] * 21,
    }
    kinds = {kind: {"range": achieved, "percentiles": achieved} for kind in ("trained", "calibrated")}
    range_ = {"command_range": [0, 100]}
    return dict(env=env, algo=algo, seed=seed, n_timesteps=300_000, episodes=[10, 100], **range_, **kinds, **more)


def test_targets_are_missed_by_the_median():
    met, unmet = synthetic(), synthetic(slope=0.5)
    assert tables.missed_targets({("Swimmer-v3", "gogepo"): [met] * 3 + [unmet] * 2}) == []
    found = tables.missed_targets({("Swimmer-v3", "gogepo"): [met, unmet, unmet]})
    assert len(found) == 3
    assert found[0] == "Swimmer-v3, as trained: R2 0.068, target 0.97 (3 of 5 seeds)"
    assert found[1] == "Swimmer-v3, as trained: error 25.0%, target 4% (3 of 5 seeds)"


def test_error_by_chance_is_that_of_commands_met_on_average():
    content = synthetic()
    episodes = np.random.default_rng(0).normal(np.linspace(0, 100, 21), 15.0, (10_000, 10, 21))
    content["trained"]["range"]["std_returns"] = episodes.std(axis=1).mean(axis=0).tolist()
    errors = np.abs(episodes.mean(axis=1) - np.linspace(0, 100, 21)).mean() / 100
    assert tables.error_by_chance(content) == pytest.approx(errors, rel=0.05)
    assert np.isnan(tables.error_by_chance({**content, "episodes": [1, 1]}))


def test_unmet_commands_are_told_by_whether_any_command_earns_them():
    rows = tables.unmet_commands({("Swimmer-v3", "gogepo"): [synthetic(slope=0.5)]}).splitlines()
    assert rows[2:] == ["| Swimmer-v3 | `gogepo` | 0 | 8: 25.0 to 60.0 | 8: 65.0 to 100.0 |"]


def test_errors_in_the_band_are_told_from_those_outside():
    inside, outside = tables.errors_by_band(synthetic(offset=5.0, band=[40, 60]))
    assert inside == pytest.approx(0.05)
    assert outside == pytest.approx(0.05)


def test_seeds_of_other_budgets_are_refused(tmp_path):
    for seed, n_timesteps in ((0, 100), (1, 200)):
        path = tmp_path / PLAIN / "gogepo" / "Swimmer-v3" / f"{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**synthetic(seed=seed), "n_timesteps": n_timesteps}))
    with pytest.raises(ValueError, match="differ in env steps or episodes"):
        tables.load(tmp_path, PLAIN)


def test_the_docs_table_is_that_of_the_results():
    from benchmarks.commands.report import text

    assert (ROOT / "docs" / "benchmarks" / "commands.md").read_text(encoding="utf-8") == text(ROOT / "benchmarks" / "results")


def test_settings_are_those_of_the_benchmarks_track():
    options = options_for("unused", PLAIN, "gogepo", "Hopper-v3", "0", "10", "100")
    assert settings_of(Cell(PLAIN, "gogepo", "Hopper-v3", 0), options)["hyperparams"]["alive_bonus_offset"] == -1
