"""Statistics by hand, and a report that is the same each time and says what is missing."""

import numpy as np
import pytest

from benchmarks.report import __main__ as report
from benchmarks.report import figures, tables
from benchmarks.report.data import Group, actors_of, read_groups
from benchmarks.report.published import PUBLISHED, TABLES, write_published
from benchmarks.report.statistics import (
    aggregate,
    common_curve,
    estimate_mean,
    estimate_over_envs,
    performance_profile,
    probability_of_improvement,
)
from benchmarks.run.layout import ACTOR_COLUMNS, N_EVAL_EPISODES, RESULTS, ROOT, Cell, write_rows
from tests.benchmarks.synthetic import write_cell, write_everything


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def no_pictures(monkeypatch):
    """Figures are not drawn: that takes long, and fonts differ."""
    monkeypatch.setattr(figures, "save", lambda figure, path: None)
    for name in ("learning_curves", "ablation", "several_envs", "profiles"):
        monkeypatch.setattr(figures, name, lambda *_: None)


def cell(algo="gogepo", env="Swimmer-v3", seed=0):
    return Cell("paper", algo, env, seed)


def group(results, algo="gogepo", env="Swimmer-v3"):
    return read_groups(results, "paper")[env][algo]


def test_interval_of_equal_seeds_is_a_point():
    estimate = estimate_mean(np.full((4, 2), [3.0, 5.0]))
    np.testing.assert_allclose(estimate, [[3, 5]] * 3)


def test_interval_is_of_the_seeds_mean():
    """Of a hundred seeds, half 0 and half 1, a resample's mean has a standard deviation of 0.05."""
    estimate = estimate_mean(np.tile([0.0, 1.0], 50))
    assert estimate.mean == 0.5
    np.testing.assert_allclose([estimate.low, estimate.high], [0.5 - 1.96 * 0.05, 0.5 + 1.96 * 0.05], atol=0.011)


def test_one_seed_has_no_interval():
    estimate = estimate_mean(np.array([2.0]))
    assert estimate.mean == 2
    assert np.isnan([estimate.low, estimate.high]).all()
    assert tables.interval(2.0, np.nan, np.nan, 1) == "2.00"


def test_few_seeds_have_a_range():
    estimate = estimate_mean(np.array([1.0, 2.0, 6.0, 3.0]))
    assert (estimate.mean, estimate.low, estimate.high) == (3, 1, 6)
    assert tables.interval(*estimate, n_seeds=4) == "3.00 (1.00 to 6.00)"
    assert tables.interval(*estimate, n_seeds=5) == "3.00 [1.00, 6.00]"


def test_final_return_is_the_last_tenth(results):
    write_cell(results, cell(), [0.0] * 18 + [10.0, 20.0], n_timesteps=2000)
    assert group(results).runs[0].final_return == 15
    assert group(results).runs[0].return_near(1000) == 0


def test_time_to_a_return(results):
    """Seeds reach 100 at 600, 1000 and never: the median is 1000 steps, and 1.5 s or 1 s CPU for each 1000 steps."""
    write_cell(results, cell(seed=0), [0, 0, 100, 0, 0], n_timesteps=1000)
    write_cell(results, cell(seed=1), [0, 0, 0, 0, 120], n_timesteps=1000)
    write_cell(results, cell(seed=2), [0, 0, 0, 0, 99.9], n_timesteps=1000)
    text = tables.times_to_return(read_groups(results, "paper"), ["gogepo"])
    assert "| Swimmer-v3 | 100 | `gogepo` | 2 of 3 | 1k | 3 of 3 | 0.03 | 0.02 |" in text
    assert "| Swimmer-v3 | 300 | `gogepo` | 0 of 3 | not within 1k |  |  |  |" in text


def test_curve_over_seconds_holds_the_last_value(results):
    write_cell(results, cell(seed=0), [1.0, 3.0], n_timesteps=2000, seconds_a_step=0.001)
    write_cell(results, cell(seed=1), [5.0, 5.0], n_timesteps=2000, seconds_a_step=0.0015)
    x, estimate = common_curve(group(results), "train_cpu_seconds")
    np.testing.assert_allclose(x, [1.5, 2.0, 3.0])  # both have begun, then each evaluation of either
    np.testing.assert_allclose(estimate.mean, [3, 4, 4])


def test_figures_of_time_show_what_their_axis_says(results):
    """1.5 s of wall clock and 1 s of CPU time for each 1000 steps; in minutes."""
    for seed in range(5):
        write_cell(results, cell(seed=seed), [10.0 * seed, 100.0 + seed], n_timesteps=240_000)
    groups = read_groups(results, "paper")
    for axis, end in (("timesteps", 240_000), ("train_seconds", 6.0), ("train_cpu_seconds", 4.0)):
        (panel,) = figures.learning_curves(groups, ["gogepo"], axis).axes
        (line,) = panel.lines
        assert line.get_xdata()[-1] == pytest.approx(end)
        np.testing.assert_allclose(line.get_ydata(), [20, 102])
        (band,) = panel.collections
        low, high = band.get_datalim(panel.transData).intervaly
        assert 0 < low < 20 < 90 < 102 < high < 104


def test_actors_are_drawn_beside_their_generators(results):
    for seed, env in enumerate(("Swimmer-v3", "Hopper-v3")):
        write_cell(results, cell("gogepo-critic", env, seed), [1.0, 3.0], n_timesteps=1000)
    rows = [[500, *[10.0] * N_EVAL_EPISODES], [1000, *[30.0] * N_EVAL_EPISODES]]
    write_rows(results / cell("gogepo-critic", "Hopper-v3", 1).path / "actor.csv", ACTOR_COLUMNS, rows)
    groups = read_groups(results, "paper")
    found = actors_of(groups, "gogepo-critic")
    assert list(found) == ["Hopper-v3"]
    np.testing.assert_allclose(found["Hopper-v3"].runs[0].returns, [10, 30])
    np.testing.assert_allclose(groups["Hopper-v3"]["gogepo-critic"].runs[0].returns, [1, 3])
    assert "actor_of_gogepo-critic.png" in report.write_track(groups, "paper", results)


def test_unfinished_and_other_lengths_are_left_out_and_named(results):
    write_cell(results, cell(seed=0), [1.0], n_timesteps=1000)
    write_cell(results, cell(seed=1), [3.0], n_timesteps=1000)
    write_cell(results, cell(seed=2), [100.0], n_timesteps=5000)
    write_cell(results, cell(seed=3), [100.0], n_timesteps=1000, status="running", timesteps=700)
    found = group(results)
    assert isinstance(found, Group)
    assert [run.cell.seed for run in found.runs] == [0, 1]
    assert found.left_out == ["seed 2 finished, 5,000 of 5,000 steps", "seed 3 running, 700 of 1,000 steps"]


def test_other_settings_are_not_averaged(results):
    """Of the same length, but with other hyperparameters, or evaluated at other steps."""
    for seed in range(2):
        write_cell(results, cell(seed=seed), [1.0, 2.0], n_timesteps=1000, hyperparams={"batch_size": 16})
    write_cell(results, cell(seed=2), [100.0, 100.0], n_timesteps=1000, hyperparams={"batch_size": 8})
    write_cell(results, cell(seed=3), [100.0], n_timesteps=1000, hyperparams={"batch_size": 16})
    found = group(results)
    assert [run.cell.seed for run in found.runs] == [0, 1]
    other = "finished, 1,000 of 1,000 steps, with other hyperparameters or evaluations"
    assert found.left_out == [f"seed 2 {other}", f"seed 3 {other}"]


def test_what_was_a_default_once_and_is_given_now_is_the_same_setting(results):
    """Seeds 1 and 2 ran after the default had changed to 20: one was given the old value, one was not."""
    write_cell(results, cell(seed=0), [1.0], n_timesteps=1000, hyperparams={}, defaults={"batch_size": 16})
    write_cell(results, cell(seed=1), [3.0], n_timesteps=1000, hyperparams={"batch_size": 16}, defaults={"batch_size": 20})
    write_cell(results, cell(seed=2), [100.0], n_timesteps=1000, hyperparams={}, defaults={"batch_size": 20})
    found = group(results)
    assert [run.cell.seed for run in found.runs] == [0, 1]
    assert len(found.left_out) == 1


def test_times_are_of_one_kind_of_processor(results):
    """Most algorithms ran on the fast one; most runs, and UDRL's, were on the slow one."""
    for seed, cpu in enumerate(["fast", "fast", "slow"]):
        slowness = 1 if cpu == "fast" else 100
        write_cell(results, cell(seed=seed), [100.0], n_timesteps=1000, seconds_a_step=0.06 * slowness, cpu=cpu)
    write_cell(results, cell("sac"), [100.0], n_timesteps=1000, cpu="fast")
    for seed in range(4):
        write_cell(results, cell("udrl", seed=seed), [100.0], n_timesteps=1000, cpu="slow")
    write_cell(results, cell("ars"), [100.0], n_timesteps=1000, cpu="fast")
    groups = read_groups(results, "paper")
    text = tables.times_to_return(groups, ["gogepo", "udrl"])
    assert "| Swimmer-v3 | 100 | `gogepo` | 3 of 3 | 1k | 2 of 3 | 1.50 | 1.00 |" in text
    assert "| Swimmer-v3 | 100 | `udrl` | 4 of 4 | 1k | 0 of 4 | other machine | other machine |" in text
    text = tables.costs(groups, ["gogepo", "udrl"])
    assert "| Swimmer-v3 | `gogepo` | 2 of 3 | 1,000 | 1.50 | 1.00 | 17 |" in text
    assert "udrl" not in text
    assert tables.not_timed(groups) == "- Swimmer-v3: `udrl`\n"


def test_times_are_of_one_number_of_threads(results):
    for seed, threads in enumerate([1, 1, 8]):
        write_cell(results, cell(seed=seed), [100.0], n_timesteps=1000, threads=threads)
    text = tables.times_to_return(read_groups(results, "paper"), ["gogepo"])
    assert "| Swimmer-v3 | 100 | `gogepo` | 3 of 3 | 1k | 2 of 3 |" in text


def test_who_never_finished_is_named(results, tmp_path, no_pictures):
    write_cell(results, cell(), [1.0], n_timesteps=1000)
    write_cell(results, cell("sac"), [1.0], n_timesteps=1000, status="failed", timesteps=10)
    report.main(["--results", str(results), "--docs", str(tmp_path)])
    text = (tmp_path / "benchmarks" / "paper.md").read_text()
    assert "| `sac` | none finished |" in text
    assert "- Swimmer-v3, `sac`: seed 0 failed, 10 of 1,000 steps" in text


def test_who_is_not_listed_any_more_is_named(results, tmp_path, no_pictures):
    write_cell(results, cell(), [1.0], n_timesteps=1000)
    write_cell(results, cell("forgotten"), [1.0], n_timesteps=1000)
    report.main(["--results", str(results), "--docs", str(tmp_path)])
    text = (tmp_path / "benchmarks" / "paper.md").read_text()
    assert "Left out, because `benchmarks/run/algorithms.yml` does not list them: `forgotten` on Swimmer-v3." in text


def test_ablations_say_what_is_missing_and_where_they_are_from(results, tmp_path, no_pictures):
    for label in ("gogepo-no-probes", "gogepo-1-state"):
        write_cell(results, Cell("ablations", label, "Swimmer-v3", 0), [1.0], n_timesteps=1000)
    failed = Cell("ablations", "gogepo-40-states", "Swimmer-v3", 0)
    write_cell(results, failed, [1.0], n_timesteps=1000, status="failed", timesteps=10)
    report.main(["--results", str(results), "--docs", str(tmp_path)])
    text = (tmp_path / "benchmarks" / "ablations.md").read_text()
    assert "- Swimmer-v3, `gogepo-40-states`: seed 0 failed, 10 of 1,000 steps" in text
    assert "- 2 cells. Commits: `000000000000`." in text


def test_runs_too_short_to_compare_are_left_out_of_the_iqm(results, tmp_path, no_pictures):
    """GoGePo is first evaluated after 5000 steps, when SAC is over."""
    for algo in ("gogepo", "ars"):
        write_cell(results, cell(algo), [1.0, 2.0], n_timesteps=10_000)
    write_cell(results, cell("sac"), [3.0], n_timesteps=1000)
    report.main(["--results", str(results), "--docs", str(tmp_path)])
    text = (tmp_path / "benchmarks" / "paper.md").read_text()
    assert "at equal env steps: Swimmer-v3 10k. Not run on all of them, or not for so long: `sac`." in text


def test_committed_tables_are_those_of_the_committed_results(tmp_path, no_pictures):
    report.main(["--results", str(ROOT / RESULTS), "--docs", str(tmp_path)])
    made = sorted((tmp_path / "benchmarks").iterdir())
    assert [path.name for path in made] == ["ablations.md", "paper.md", "published.md", "tuned.md"]
    for path in made:
        committed = ROOT / "docs" / "benchmarks" / path.name
        assert path.read_text() == committed.read_text(), f"run `python -m benchmarks.report`: {committed} is of other results"


def test_return_near_takes_the_last_one_before(results):
    write_cell(results, cell(), [1.0, 2.0], n_timesteps=2000)
    (run,) = group(results).runs
    assert run.return_near(1500) == 1
    with pytest.raises(ValueError, match="paper/gogepo/Swimmer-v3/0 has no evaluation within 999 env steps"):
        run.return_near(999)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("paper/ars/Swimmer-v3/0", "{", "manifest.json holds no JSON"),
        ("paper/ars/Swimmer-v3/0", "[]", "manifest.json must hold a JSON object, got list"),
        ("paper/ars/Swimmer-v3/0", "{}", "manifest.json lacks n_timesteps, sessions, status, timesteps"),
        (
            "paper/ars/Swimmer-v3/0",
            '{"status": "finished", "n_timesteps": 1, "timesteps": 1, "sessions": [], "train_seconds": 1}',
            "manifest.json lacks env_steps, eval_seconds, peak_memory_mb, train_cpu_seconds",
        ),
        (
            "paper/ars/Swimmer-v3/0",
            '{"status": "finished", "n_timesteps": 1, "timesteps": 1, "sessions": [], "train_seconds": 1, "env_steps": 1, '
            '"eval_seconds": 1, "peak_memory_mb": 1, "train_cpu_seconds": 1}',
            "manifest.json says that the cell is finished, but there is no evaluation in its curve.csv",
        ),
        ("paper/ars/Swimmer-v3/0_old", "{}", "the folder of a cell must be named by its seed, got"),
    ],
)
def test_wrong_results(name, content, message, results, tmp_path, capsys):
    (results / name).mkdir(parents=True)
    (results / name / "manifest.json").write_text(content)
    with pytest.raises(SystemExit):
        report.main(["--results", str(results), "--docs", str(tmp_path / "docs")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()


def test_results_that_are_not_there(tmp_path, capsys):
    with pytest.raises(SystemExit):
        report.main(["--results", str(tmp_path / "none"), "--docs", str(tmp_path / "docs")])
    assert "--results must be a folder with results of benchmarks.run, got" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()


def test_report_regenerates_identically(results, tmp_path):
    write_everything(results)
    for name in ("one", "two"):
        report.main(["--results", str(results), "--docs", str(tmp_path / name)])
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert {path.suffix for path in files} == {".md", ".png"}
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    text = (tmp_path / "one" / "benchmarks" / "paper.md").read_text()
    assert "| `td3` |" in text
    assert "not run" in text  # td3 on Hopper
    assert "3 seeds, 100k steps" in text
    assert "Not run on all of them, or not for so long: `td3`." in text
    assert "- Swimmer-v3, `sac`: seed 3 running, 1,000 of 100,000 steps" in text
    assert "gogepo-raw-weights" not in text  # ablations have a part of their own
    assert "`gogepo-raw-weights`: raw weights" in (tmp_path / "one" / "benchmarks" / "ablations.md").read_text()
    assert (tmp_path / "one" / "benchmarks" / "tuned.md").read_text() == report.NOTHING
    for picture in (line.split("](")[1].rstrip(")\n") for line in text.splitlines() if line.startswith("![")):
        assert (tmp_path / "one" / picture).is_file()


def test_iqm_is_taken_at_equal_steps(results, tmp_path, no_pictures):
    """SAC has made 1000 steps, so GoGePo counts at 1000 steps, too: return 50 there, 150 / 465 of Swimmer's range."""
    for seed in range(2):
        write_cell(results, cell("gogepo", seed=seed), [0.0] * 9 + [50.0] + [300.0] * 90, n_timesteps=10_000)
        write_cell(results, cell("sac", seed=seed), [365.0] * 10, n_timesteps=1000)
    report.main(["--results", str(results), "--docs", str(tmp_path)])
    text = (tmp_path / "benchmarks" / "paper.md").read_text()
    assert "at equal env steps: Swimmer-v3 1k." in text
    assert "| `sac` | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] | 2 |" in text
    share = f"{150 / 465:.2f} [{150 / 465:.2f}, {150 / 465:.2f}]"
    assert f"| `gogepo` | {share} | {share} | 2 |" in text


def test_where_runs_differ_in_length_a_figure_shows_their_common_steps(results, tmp_path):
    for env, n_timesteps in (("Swimmer-v3", 10_000), ("Hopper-v3", 1000)):
        write_cell(results, cell("gogepo", env=env), [1.0] * (n_timesteps // 100), n_timesteps=n_timesteps)
        write_cell(results, cell("sac", env=env), [2.0] * 10, n_timesteps=1000)
    report.main(["--results", str(results), "--docs", str(tmp_path)])
    assert "paper_first_steps.png" in (tmp_path / "benchmarks" / "paper.md").read_text()
    groups = read_groups(results, "paper")
    (panel,) = figures.learning_curves(
        {"Swimmer-v3": groups["Swimmer-v3"]}, ["gogepo"], "timesteps", {"Swimmer-v3": 1000}
    ).axes
    assert panel.lines[0].get_xdata().max() == 1000
    del groups["Swimmer-v3"]
    assert "first_steps" not in report.write_track(groups, "paper", tmp_path)


def test_the_mean_has_the_failures_that_the_iqm_leaves_out(results, tmp_path, no_pictures):
    """Two tasks are solved by three of four seeds: one quarter of all runs fails."""
    for env, best in (("Swimmer-v3", 365.0), ("Hopper-v3", 3000.0)):
        for seed in range(4):
            write_cell(results, cell("gogepo", env=env, seed=seed), [best if seed else -100.0] * 10, n_timesteps=1000)
            write_cell(results, cell("ars", env=env, seed=seed), [best] * 10, n_timesteps=1000)
    report.main(["--results", str(results), "--docs", str(tmp_path)])
    lines = (tmp_path / "benchmarks" / "paper.md").read_text().splitlines()
    assert any(line.startswith("| `gogepo` | 1.00 [") and "| 0.75 [" in line for line in lines)


def test_every_seed_counts_and_every_env_alike():
    """Of ten and five seeds: the mean over envs of means over seeds, though two thirds of the seeds are on one env."""
    many, few = np.array([0.0] * 5 + [1.0] * 5), np.full(5, 0.9)
    iqm, mean = estimate_over_envs([many, few])
    assert mean[0] == pytest.approx(0.7)
    assert iqm[0] == pytest.approx(0.9)  # a quarter of the weight is 0, a quarter 1
    assert mean[1] < 0.7 < mean[2] < 0.9
    without_failures, _ = estimate_over_envs([many[5:], few])
    assert without_failures[0] > iqm[0]


def test_intervals_over_envs_are_of_the_seeds_of_each():
    """Envs differ, their seeds do not: nothing to resample. Of one seed on an env there is no interval."""
    iqm, mean = estimate_over_envs([np.zeros(3), np.ones(6)])
    assert iqm == mean == (0.5, 0.5, 0.5)
    assert np.isnan(estimate_over_envs([np.zeros(1), np.ones(6)])[0][1:]).all()


def test_profiles_and_improvements_are_rliables():
    """With equally many seeds on all envs, which is what rliable takes; draws count half."""
    from rliable import library, metrics

    rng = np.random.default_rng(0)
    scores, others = (rng.integers(0, 4, (2, 6)) / 4 for _ in range(2))  # two envs, six seeds
    thresholds = np.linspace(0, 1, 9)
    profile = np.array(performance_profile(list(scores), thresholds))
    np.testing.assert_allclose(profile[:, 0], library.score_distributions(scores.T, thresholds))
    assert (profile[:, 1] <= profile[:, 0]).all()
    assert (profile[:, 0] <= profile[:, 2]).all()
    point, low, high = probability_of_improvement(list(scores), list(others))
    assert point == pytest.approx(metrics.probability_of_improvement(scores.T, others.T))
    assert low < point < high


def test_improvement_over_one_that_always_loses(results):
    """Where one has two seeds and the other three; the figure names the first as the better one."""
    for algo, n_seeds, value in (("gogepo", 2, 300.0), ("ars", 3, 100.0)):
        for seed in range(n_seeds):
            write_cell(results, cell(algo, seed=seed), [value], n_timesteps=1000)
    result = aggregate(read_groups(results, "paper"), ["gogepo", "ars"])
    assert result is not None
    assert probability_of_improvement(result.scores["gogepo"], result.scores["ars"]) == (1, 1, 1)
    assert probability_of_improvement(result.scores["ars"], result.scores["gogepo"]) == (0, 0, 0)
    left, right = figures.profiles(result, ["gogepo", "ars"]).axes
    assert [line.get_label() for line in left.lines] == ["gogepo", "ars"]
    assert right.lines[0].get_xdata().tolist() == [1, 1]
    assert right.get_xlabel() == "probability that a run of gogepo is better"


def test_iqm_of_whole_runs_leaves_shorter_ones_out(results, tmp_path, no_pictures):
    """A second table at GoGePo's and ARS's 10,000 steps, which SAC has not made."""
    for seed in range(2):
        write_cell(results, cell("gogepo", seed=seed), [0.0] * 9 + [300.0], n_timesteps=10_000)
        write_cell(results, cell("ars", seed=seed), [0.0] * 9 + [132.5], n_timesteps=10_000)
        write_cell(results, cell("sac", seed=seed), [365.0] * 10, n_timesteps=1000)
        write_cell(results, cell("ars", env="HalfCheetah-v3", seed=seed), [1.0] * 10, n_timesteps=1000)  # has no range
    report.main(["--results", str(results), "--docs", str(tmp_path)])
    text = (tmp_path / "benchmarks" / "paper.md").read_text()
    equal, whole = text.split("**Several envs together**")[1:]
    assert "at equal env steps: Swimmer-v3 1k." in equal
    assert "at equal env steps: Swimmer-v3 10k. Not run on all of them, or not for so long: `sac`." in whole
    assert "| `ars` | 0.50 [0.50, 0.50] | 0.50 [0.50, 0.50] | 2 |" in whole
    share = f"{400 / 465:.2f} [{400 / 465:.2f}, {400 / 465:.2f}]"
    assert f"| `gogepo` | {share} | {share} | 2 |" in whole
    assert "| `sac` |" not in whole.split("**What a run costs**")[0]
    assert "paper_steps.png" in text
    assert "paper_steps_other_envs.png" in text


def test_published_results_stand_beside_ours_and_none_is_dropped(results):
    write_cell(results, cell(env="Hopper-v2"), [10.0], n_timesteps=1000)
    text = write_published(read_groups(results, "paper"))
    assert "| `gogepo` | ours |  | 10.0<br>1 seed, 1k steps, v2 |" in text
    assert "| td3 | published: CleanRL |  | 3,135 ± 360.2<br>1M steps, v4 |" in text
    shown = {env for envs in TABLES for env in envs}
    for known in PUBLISHED:
        assert f"[{known['source']}]({known['url']})" in text
        assert {env_id.rpartition("-")[0] for returns in known["returns"].values() for env_id in returns} <= shown
