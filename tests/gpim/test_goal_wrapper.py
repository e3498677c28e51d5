import numpy as np
import pytest
from gymnasium import spaces

from sb3_gogepo import GPIM
from sb3_gogepo.gpim import GoalWrapper
from tests.toy_envs import Seeded, Spaces

from .conftest import SMALL


def test_indices():
    env = GoalWrapper(Seeded(), goal_map=[1])
    observation, _ = env.reset(seed=0, options={"goal": [4.0]})
    assert env.observation_space.contains(observation)
    assert observation["achieved_goal"].tolist() == [0.0]  # the time
    assert observation["desired_goal"].tolist() == [4.0]
    observation, reward, *_ = env.step(np.zeros(1))
    assert observation["achieved_goal"].tolist() == [1.0]
    assert reward == pytest.approx(env.unwrapped.start)
    assert env.observation_space["achieved_goal"] == spaces.Box(-10, 10, (1,), np.float32)


def test_a_function_and_the_whole_observation():
    env = GoalWrapper(Seeded(), goal_map=lambda observation: np.outer(observation, observation))
    observation, _ = env.reset(seed=0)
    assert np.allclose(observation["achieved_goal"], np.outer(observation["observation"], observation["observation"]))
    assert GoalWrapper(Seeded()).observation_space["desired_goal"].shape == (2,)


def test_a_goal_may_be_one_number():
    env = GoalWrapper(Seeded(), goal_map=lambda observation: observation.sum())
    observation, _ = env.reset(seed=0, options={"goal": 3})
    assert observation["achieved_goal"] == pytest.approx(observation["observation"].sum())
    assert env.observation_space.contains(observation)


def test_goals_are_drawn_by_the_seed():
    env = GoalWrapper(Seeded(), goal_map=[0], goals=np.arange(100).reshape(-1, 1))
    goals = [env.reset(seed=k)[0]["desired_goal"][0] for k in (1, 2, 1)]
    assert goals[0] == goals[2] != goals[1]


def test_gpim_learns_in_it():
    model = GPIM("MultiInputPolicy", GoalWrapper(Seeded(), goal_map=[0]), **SMALL).learn(60)
    assert model.skill_timesteps > 0
    assert model.goal_timesteps > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(goal_map=[2]), r"goal_map must be a function or integers in \[0, 2\), got \[2\]"),
        (dict(goal_map=[]), r"goal_map must be .* got \[\]"),
        (dict(goal_map=[0], goals=np.zeros((3, 2))), r"goals must each have the shape \(1,\), got \(2,\)"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GoalWrapper(Seeded(), **arguments)


def test_wrong_env():
    env = Spaces(spaces.Discrete(3), spaces.Box(-1, 1, (1,), np.float32))
    with pytest.raises(ValueError, match=r"GoalWrapper needs an env of flat Box observations, got Discrete\(3\)"):
        GoalWrapper(env)
