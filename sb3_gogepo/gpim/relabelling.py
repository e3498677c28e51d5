"""Relabelling f_kappa: an episode of the skill policy -> goals of the goal-conditioned policy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: "fixed": where the skill ended; "dynamic": where it was one step later; "sequence": where each of its segments ended
GOAL_TYPES = ("fixed", "dynamic", "sequence")


class Relabelled(NamedTuple):
    """A goal for each step of an episode, and where its distance counts.

    :param goals: (length + 1, \\*goal_shape) what the policy sees as ``desired_goal`` before each step and after the last.
    :param target_indices: (length,) index of the state that each step is to lead to, among the skill's length + 1 states.
    :param is_scored: (length,) after which steps the distance to the target counts.
    """

    goals: np.ndarray
    target_indices: np.ndarray
    is_scored: np.ndarray


def relabel_fixed(achieved: np.ndarray) -> Relabelled:
    """(length + 1, \\*achieved_shape) achieved goals -> the last one, all the time; scored at the end."""
    length = len(achieved) - 1
    is_scored = np.zeros(length, dtype=bool)
    is_scored[-1] = True
    return Relabelled(
        goals=np.repeat(achieved[-1:], length + 1, axis=0),
        target_indices=np.full(length, length),
        is_scored=is_scored,
    )


def relabel_dynamic(achieved: np.ndarray) -> Relabelled:
    """(length + 1, \\*achieved_shape) achieved goals -> at each step the next one, a moving target; always scored."""
    return Relabelled(
        goals=np.concatenate([achieved[1:], achieved[-1:]]),
        target_indices=np.arange(1, len(achieved)),
        is_scored=np.ones(len(achieved) - 1, dtype=bool),
    )


def relabel_sequence(achieved: np.ndarray, segment_length: int, n_segments: int) -> Relabelled:
    """(length + 1, \\*achieved_shape) achieved goals -> those at the ends of the segments, one after the other.

    At each step the goal is the list of them all, (n_segments * achieved_size,). Segments that the episode did not reach
    end where it ended; steps beyond the last segment belong to it. Scored at the ends of the segments.
    """
    length = len(achieved) - 1
    ends = np.minimum(segment_length * np.arange(1, n_segments + 1), length)
    ends[-1] = length
    of_step = np.minimum(np.arange(length) // segment_length, n_segments - 1)
    is_scored = np.zeros(length, dtype=bool)
    is_scored[ends - 1] = True
    return Relabelled(
        goals=np.repeat(achieved[ends].reshape(1, -1), length + 1, axis=0),
        target_indices=ends[of_step],
        is_scored=is_scored,
    )


def relabel(achieved: np.ndarray, goal_type: str, segment_length: int | None, n_segments: int) -> Relabelled:
    """f_kappa: achieved goals -> what the goal-conditioned policy is asked to achieve.

    :param achieved: (length + 1, \\*achieved_shape) goals that the skill policy achieved in an episode.
    :param goal_type: one of ``GOAL_TYPES``.
    :param segment_length: number of steps in a segment; used by ``"sequence"`` only.
    :param n_segments: number of segments; used by ``"sequence"`` only.
    """
    if goal_type == "fixed":
        return relabel_fixed(achieved)
    if goal_type == "dynamic":
        return relabel_dynamic(achieved)
    assert segment_length is not None
    return relabel_sequence(achieved, segment_length, n_segments)


def goal_errors(achieved: np.ndarray, targets: np.ndarray, is_scored: np.ndarray) -> tuple[float, float]:
    """Mean Euclidean distance to the target over the scored steps, and what it would be for staying at the start.

    Their ratio is the normalized distance: 0 if each target is met, 1 for a policy that never moves.

    :param achieved: (length + 1, \\*achieved_shape) goals that the policy achieved. Where the skill's episode was longer,
        the last one stands for those missing.
    :param targets: (n, \\*achieved_shape) target of each step of the skill's episode.
    :param is_scored: (n,) after which of these steps the distance counts.
    """
    steps = np.flatnonzero(is_scored)
    targets = targets.reshape(len(targets), -1)[steps]
    flat = achieved.reshape(len(achieved), -1)
    reached = flat[np.minimum(steps + 1, len(flat) - 1)]
    return (
        float(np.linalg.norm(reached - targets, axis=1).mean()),
        float(np.linalg.norm(flat[0] - targets, axis=1).mean()),
    )
