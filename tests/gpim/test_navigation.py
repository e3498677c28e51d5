"""The plane, its walls, its goals."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sb3_gogepo.gpim import Navigation2D
from sb3_gogepo.gpim.navigation import IMAGE_SIDE, LAYOUTS, MARGIN, TARGET_SPEED, slide

from .conftest import KINDS

WALL = [(3.0, 3.0, 3.0, 10.0)]


@pytest.mark.parametrize(
    ("position", "move", "expected"),
    [
        ((5, 5), (0.5, -0.5), (5.5, 4.5)),  # nothing in the way
        ((3.2, 5), (-0.5, 0), (3 + MARGIN, 5)),  # from the right
        ((2.8, 5), (0.5, 0), (3 - MARGIN, 5)),  # from the left
        ((3.2, 5), (-0.5, 0.4), (3 + MARGIN, 5.4)),  # along the wall
        ((3.2, 2.9), (-0.5, 0), (2.7, 2.9)),  # below its end
        ((3, 2.8), (0, 0.5), (3, 3.3)),  # a wall has no thickness
        ((9.8, 0.2), (0.5, -0.5), (10, 0)),  # the plane's edges
    ],
)
def test_movement_by_hand(position, move, expected):
    assert np.allclose(slide(np.array(position, float), np.array(move), WALL), expected)


def test_nobody_gets_through_a_wall_in_small_steps():
    position = np.array([3.2, 5.0])
    for _ in range(50):
        position = slide(position, np.array([-0.4, 0.0]), WALL)
    assert position[0] == 3 + MARGIN


def test_random_walks_never_cross():
    env = Navigation2D(horizon=300)
    env.reset(seed=0)
    env.action_space.seed(0)
    before = env.position
    for _ in range(300):
        env.step(env.action_space.sample())
        for x, low, _, high in LAYOUTS["walls"]:
            if low + 0.5 < before[1] < high - 0.5:
                assert (before[0] < x) == (env.position[0] < x)
        before = env.position


@pytest.mark.filterwarnings("ignore")  # the checker has opinions on style
@pytest.mark.parametrize("kind", KINDS)
def test_gymnasium_agrees(kind):
    check_env(Navigation2D(**KINDS[kind][0], render_mode="rgb_array"), skip_render_check=False)


def test_as_many_places_as_steps_at_most():
    assert Navigation2D(goal_type="sequence", horizon=3, n_subgoals=3).reset()[0]["desired_goal"].shape == (6,)
    with pytest.raises(ValueError, match="n_subgoals must be at most horizon, 3, got 4"):
        Navigation2D(goal_type="sequence", horizon=3, n_subgoals=4)


def test_registered():
    env = gym.make("Navigation2D-v0", layout="open", render_mode="rgb_array")
    observation, info = env.reset(seed=3)
    assert np.allclose(observation["desired_goal"], info["target"] / 5 - 1)
    picture = env.render()
    assert picture.shape == (200, 200, 3)
    x, y = info["target"]
    assert tuple(picture[199 - int(y * 20), int(x * 20)]) == (214, 39, 40)


def test_a_fixed_goal_is_scored_at_the_end():
    env = Navigation2D(layout="open", horizon=8)
    observation, _ = env.reset(options={"goal": (7.0, 5.0)})
    scored = []
    for _ in range(8):
        observation, reward, terminated, truncated, info = env.step(np.array([0.5, 0.0]))
        scored.append(info["is_scored"])
    assert np.allclose(info["position"], (7, 5))
    assert reward == 0
    assert (terminated, truncated) == (False, True)
    assert scored == [False] * 7 + [True]
    assert np.allclose(observation["achieved_goal"], observation["desired_goal"])


def test_held_out_goals_are_those_of_the_seed():
    goals = [Navigation2D().reset(seed=k)[1]["target"] for k in (0, 1, 0)]
    assert np.array_equal(goals[0], goals[2])
    assert not np.array_equal(goals[0], goals[1])
    assert all(np.linalg.norm(goal - 5) >= 1 for goal in goals)


def test_a_moving_target_moves_at_its_speed():
    env = Navigation2D(layout="open", goal_type="dynamic")
    observation, _ = env.reset(seed=0)
    assert observation["observation"].shape == (3,)
    steps = np.linalg.norm(np.diff(env.targets, axis=0), axis=1)
    assert np.allclose(steps, TARGET_SPEED)
    next_observation, *_, info = env.step(np.zeros(2))
    assert np.allclose(observation["desired_goal"], info["target"] / 5 - 1, atol=1e-6)
    assert info["is_scored"]
    assert not np.array_equal(next_observation["desired_goal"], observation["desired_goal"])


def test_a_sequence_lists_places_with_deadlines():
    env = Navigation2D(layout="open", goal_type="sequence", n_subgoals=3, horizon=7)
    observation, _ = env.reset(options={"goal": [(1, 1), (2, 2), (3, 3)]})
    assert np.allclose(observation["desired_goal"], np.array([1, 1, 2, 2, 3, 3]) / 5 - 1)
    steps = [env.step(np.zeros(2)) for _ in range(7)]
    infos = [step[-1] for step in steps]
    assert [info["target"][0] for info in infos] == [1, 1, 1, 2, 2, 3, 3]
    assert [info["is_scored"] for info in infos] == [False, False, True, False, True, False, True]
    is_due = np.stack([observation["observation"][3:], *(step[0]["observation"][3:] for step in steps)])
    assert (is_due == np.where(np.eye(3)[[0, 0, 0, 1, 1, 2, 2, 2]], 1, -1)).all()


def test_pictures_show_where_the_point_is():
    env = Navigation2D(goal_space="image")
    pictures = env.describe(np.array([[0.4, 9.6], [9.6, 0.4]])).reshape(2, IMAGE_SIDE, IMAGE_SIDE)
    assert np.unravel_index(pictures[0].argmax(), pictures[0].shape) == (0, 0)  # top left
    assert np.unravel_index(pictures[1].argmax(), pictures[1].shape) == (IMAGE_SIDE - 1, IMAGE_SIDE - 1)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (dict(layout="maze"), r"layout must be one of 'open', 'walls', got 'maze'"),
        (dict(goal_type="moving"), r"goal_type must be one of .* got 'moving'"),
        (dict(horizon=0), r"horizon must be an integer >= 1, got 0"),
        (dict(max_step=0), r"max_step must be a finite number > 0, got 0"),
        (dict(goal_space="text"), r"goal_space must be one of 'position', 'image', got 'text'"),
    ],
)
def test_wrong_arguments(argument, message):
    with pytest.raises(ValueError, match=message):
        Navigation2D(**argument)
