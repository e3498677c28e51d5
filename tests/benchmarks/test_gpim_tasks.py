"""What benchmarks.gpim evaluates on: closed forms, without training."""

import numpy as np
import pytest

from benchmarks.gpim.tasks import TASKS, evaluate, final_states_of_random_actions


@pytest.mark.parametrize("name", ["fixed", "swimmer"])
def test_distance_is_that_at_the_end_and_one_for_who_stays(name, monkeypatch):
    monkeypatch.setattr("benchmarks.gpim.tasks.N_GOALS", 3)
    task = TASKS[name]
    shape = task.make().action_space.shape
    result = evaluate(lambda observations: np.zeros((3, *shape)), task)
    moved = np.linalg.norm(result.positions[:, -1] - result.positions[:, 0], axis=1)
    assert result.normalized_distance == pytest.approx(1, abs=float(moved.max() / result.distances.mean()))
    np.testing.assert_allclose(result.distances, np.linalg.norm(result.positions[:, -1] - result.targets[:, -1], axis=1))


def test_goals_from_random_actions_differ_and_are_the_same_each_time(monkeypatch):
    monkeypatch.setattr("benchmarks.gpim.tasks.N_GOALS", 3)
    task = TASKS["swimmer"]
    goals = final_states_of_random_actions(task.make)
    assert goals.shape == (3, 3)
    assert np.linalg.norm(goals[0] - goals[1]) > 0.01
    np.testing.assert_array_equal(goals, final_states_of_random_actions(task.make))


def test_maze_draws_the_same_goals_each_time_and_goes_on_at_the_goal(monkeypatch):
    pytest.importorskip("gymnasium_robotics", reason="not installed: pip install -e '.[goals]'")
    monkeypatch.setattr("benchmarks.gpim.tasks.N_GOALS", 2)
    first, second = (evaluate(lambda observations: np.ones((2, 2)), TASKS["maze"]) for _ in range(2))
    np.testing.assert_array_equal(first.targets, second.targets)
    np.testing.assert_array_equal(first.positions, second.positions)
    assert first.positions.shape == (2, 151, 2)
    assert (first.targets == first.targets[:, :1]).all()


def test_tables_of_the_docs_are_those_of_the_results():
    pytest.importorskip("matplotlib")
    from benchmarks.gpim import figures as gpim_figures

    assert gpim_figures.TABLE.read_text(encoding="utf-8") == gpim_figures.results_table()
    assert gpim_figures.REWARD_TABLE.read_text(encoding="utf-8") == gpim_figures.reward_table()


def test_a_reward_that_is_the_way_around_the_walls_has_nothing_to_do_with_the_straight_line():
    pytest.importorskip("matplotlib")
    from benchmarks.gpim.figures import partial_rank_correlation

    rng = np.random.default_rng(0)
    straight, detour, noise = rng.normal(size=(3, 2000))
    around = straight + detour
    assert partial_rank_correlation(around + 0.1 * noise, around, straight) > 0.95
    assert abs(partial_rank_correlation(around + noise, straight, around)) < 0.05
