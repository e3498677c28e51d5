"""f_kappa by hand."""

import numpy as np
import pytest

from sb3_gogepo.gpim.relabelling import goal_errors, relabel_dynamic, relabel_fixed, relabel_sequence

ACHIEVED = np.array([[0, 0], [1, 0], [2, 0], [2, 1], [2, 2]], np.float32)  # four steps


def test_fixed_goal_is_the_last_state_throughout():
    goals, indices, is_scored = relabel_fixed(ACHIEVED)
    assert np.array_equal(goals, [[2, 2]] * 5)
    assert indices.tolist() == [4] * 4
    assert is_scored.tolist() == [False, False, False, True]


def test_fixed_goal_may_be_a_picture():
    pictures = np.arange(3 * 4).reshape(3, 2, 2)
    goals, indices, _ = relabel_fixed(pictures)
    assert goals.shape == (3, 2, 2)
    assert np.array_equal(goals[0], pictures[-1])
    assert indices.tolist() == [2, 2]


def test_dynamic_goal_is_one_step_ahead():
    goals, indices, is_scored = relabel_dynamic(ACHIEVED)
    assert np.array_equal(goals, [[1, 0], [2, 0], [2, 1], [2, 2], [2, 2]])
    assert indices.tolist() == [1, 2, 3, 4]
    assert is_scored.all()


def test_sequence_lists_the_ends_of_the_segments():
    goals, indices, is_scored = relabel_sequence(ACHIEVED, segment_length=2, n_segments=2)
    assert np.array_equal(goals, [[2, 0, 2, 2]] * 5)
    assert indices.tolist() == [2, 2, 4, 4]
    assert is_scored.tolist() == [False, True, False, True]


def test_sequence_of_an_episode_that_ended_early():
    goals, indices, is_scored = relabel_sequence(ACHIEVED[:2], segment_length=2, n_segments=3)
    assert np.array_equal(goals, [[1, 0, 1, 0, 1, 0]] * 2)
    assert indices.tolist() == [1]
    assert is_scored.tolist() == [True]


def test_sequence_of_a_longer_episode_ends_with_it():
    goals, indices, is_scored = relabel_sequence(ACHIEVED, segment_length=1, n_segments=2)
    assert np.array_equal(goals[0], [1, 0, 2, 2])
    assert indices.tolist() == [1, 4, 4, 4]
    assert is_scored.tolist() == [True, False, False, True]


@pytest.mark.parametrize("relabel", [relabel_fixed, relabel_dynamic, lambda path: relabel_sequence(path, 2, 2)])
def test_errors_of_the_one_who_meets_the_goal_and_of_the_one_who_stays(relabel):
    _, indices, is_scored = relabel(ACHIEVED)
    targets = ACHIEVED[indices]
    reached, stayed = goal_errors(ACHIEVED, targets, is_scored)
    assert reached == 0
    assert stayed > 0
    reached, stayed_too = goal_errors(np.repeat(ACHIEVED[:1], 5, axis=0), targets, is_scored)
    assert reached == stayed_too == stayed


def test_errors_by_hand():
    targets = np.array([[3.0, 4.0], [0.0, 0.0]])
    path = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
    assert goal_errors(path, targets, np.array([True, True])) == (2.5, 2.5)  # (4 + 1) / 2 and (5 + 0) / 2
    assert goal_errors(path, targets, np.array([True, False])) == (4.0, 5.0)
    assert goal_errors(path[:2], targets, np.array([False, True])) == (3.0, 0.0)  # over early: its last place counts
