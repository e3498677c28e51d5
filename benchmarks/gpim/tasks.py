"""GPIM's benchmark, the tasks: an env, what differs from the common settings, and held-out goals.

``maze`` needs gymnasium-robotics (``pip install "sb3_gogepo[goals]"``), ``swimmer`` MuJoCo, which comes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from sb3_gogepo.gpim import GoalWrapper, Navigation2D

EVAL_SEED = 1_000_000  # the k-th held-out goal of every evaluation comes from this + k
N_GOALS = 50
MAZE_HORIZON = 150
SWIMMER_HORIZON = 50

Act = Callable[[dict[str, np.ndarray]], np.ndarray]


class Evaluation(NamedTuple):
    """normalized_distance: mean distance over that of staying at the start; distances (n_goals,), positions, targets."""

    normalized_distance: float
    distances: np.ndarray
    positions: np.ndarray
    targets: np.ndarray


class ScoredAtTheEnd(gym.Wrapper):
    """Infos ``position``, ``target`` and ``is_scored``, as Navigation2D has them, for a goal env of fixed goals."""

    def reset(self, **kwargs: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The env's."""
        observation, info = self.env.reset(**kwargs)
        return observation, {**info, "position": observation["achieved_goal"].copy()}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], Any, bool, bool, dict[str, Any]]:
        """The env's."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        position, target = observation["achieved_goal"].copy(), observation["desired_goal"].copy()
        scored = dict(position=position, target=target, is_scored=terminated or truncated)
        return observation, reward, terminated, truncated, {**info, **scored}


def make_maze(**kwargs: Any) -> gym.Env:
    """A U of seven cells, start and goal somewhere in it, drawn by the env itself. The episode goes on at the goal."""
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)
    return ScoredAtTheEnd(gym.make("PointMaze_UMaze-v3", max_episode_steps=MAZE_HORIZON, **kwargs))


def make_swimmer(goal_map: list[int] | None = None) -> gym.Env:
    """A swimmer whose goal is a state, or these entries of it."""
    env = gym.make("Swimmer-v5", max_episode_steps=SWIMMER_HORIZON)
    return ScoredAtTheEnd(GoalWrapper(env, goal_map=goal_map))


def final_states_of_random_actions(make_env: Callable[[], gym.Env]) -> np.ndarray:
    """(N_GOALS, n_goal) where episodes of uniform actions end, which training does not see."""
    env, goals = make_env(), []
    for k in range(N_GOALS):
        rng = np.random.default_rng(EVAL_SEED + k)
        env.reset(seed=EVAL_SEED + N_GOALS + k)
        truncated = False
        while not truncated:
            observation, _, _, truncated, _ = env.step(rng.uniform(-1, 1, size=env.action_space.shape))
        goals.append(observation["achieved_goal"])
    env.close()
    return np.stack(goals)


@dataclass(frozen=True)
class Task:
    """What GPIM is to do.

    :param make_env: its episodes are all of one length, and its infos those of Navigation2D.
    :param env_arguments: of ``make_env``.
    :param sac_arguments: over the common settings of SAC, for all methods.
    :param gpim_arguments: over these, for GPIM.
    :param policy_kwargs: over the common ones.
    :param total_steps: env steps, of both policies where there are two.
    :param radius: a goal counts as reached within this distance, in units of ``position``.
    :param n_evaluations: during training.
    :param methods: which are run.
    :param has_random_goals: the held-out goals are final states of random actions; False: the env draws them.
    """

    env_id: str = "Navigation2D-v0"
    make_env: Callable[..., gym.Env] = Navigation2D
    env_arguments: dict[str, Any] = field(default_factory=dict)
    sac_arguments: dict[str, Any] = field(default_factory=dict)
    gpim_arguments: dict[str, Any] = field(default_factory=dict)
    policy_kwargs: dict[str, Any] = field(default_factory=lambda: dict(discriminator_indices=[0, 1]))
    total_steps: int = 20_000
    radius: float = 1.0
    n_evaluations: int = 10
    methods: tuple[str, ...] = ("gpim", "random")
    has_random_goals: bool = False

    def make(self) -> gym.Env:
        """One env."""
        return self.make_env(**self.env_arguments)


walls, open_plane = dict(layout="walls"), dict(layout="open")
TASKS: dict[str, Task] = {
    "fixed": Task(env_arguments=walls, methods=("gpim", "sac_l2", "two_stage", "random")),
    "image": Task(env_arguments=dict(walls, goal_space="image")),
    "dynamic": Task(
        env_arguments=dict(open_plane, goal_type="dynamic"), gpim_arguments=dict(goal_type="dynamic", segment_length=25)
    ),
    "sequence": Task(
        env_arguments=dict(open_plane, goal_type="sequence", n_subgoals=2),
        gpim_arguments=dict(goal_type="sequence", segment_length=25),
        sac_arguments=dict(gamma=0.9),
        total_steps=60_000,
        methods=("gpim", "sac_l2", "random"),
    ),
    # For the reward map: more exploration. All steps are theirs; the goal-conditioned policy is not trained.
    "map": Task(
        env_arguments=dict(walls, horizon=100),
        gpim_arguments=dict(skill_steps=30_000, learning_starts=3000, ent_coef=0.3, buffer_size=30_000),
        policy_kwargs=dict(discriminator_indices=[0, 1], n_latents=20, discriminator_net_arch=[256, 256]),
        total_steps=30_000,
        n_evaluations=1,
        methods=("gpim",),
    ),
    "maze": Task(
        env_id="PointMaze_UMaze-v3",
        make_env=make_maze,
        total_steps=30_000,
        n_evaluations=3,
        radius=0.45,  # the env's own
    ),
    "swimmer": Task(
        env_id="Swimmer-v5",
        make_env=make_swimmer,
        env_arguments=dict(goal_map=[0, 1, 2]),  # angles of the body and of both joints
        policy_kwargs=dict(discriminator_indices=[0, 1, 2]),
        total_steps=30_000,
        n_evaluations=3,
        radius=0.5,
        has_random_goals=True,
    ),
    "swimmer_state": Task(
        env_id="Swimmer-v5",
        make_env=make_swimmer,
        policy_kwargs={},  # the whole observation: three angles and five speeds
        total_steps=30_000,
        n_evaluations=3,
        has_random_goals=True,
    ),
}


def in_order(positions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Sequences of two places: (n_goals,) is the first place nearer than the second one when it is due?

    :param positions: (n_goals, horizon + 1, 2) as in :class:`Evaluation`.
    :param targets: (n_goals, horizon, 2) likewise.
    """
    half = targets.shape[1] // 2
    to_first, to_second = (np.linalg.norm(positions[:, half] - targets[:, k], axis=1) for k in (half - 1, -1))
    return to_first < to_second


def evaluate(act: Act, task: Task) -> Evaluation:
    """One episode for each of the held-out goals, all at once."""
    envs = [task.make() for _ in range(N_GOALS)]
    goals = final_states_of_random_actions(task.make) if task.has_random_goals else None
    results = [
        env.reset(seed=EVAL_SEED + k, options=None if goals is None else {"goal": goals[k]}) for k, env in enumerate(envs)
    ]
    observations, infos = [result[0] for result in results], [result[1] for result in results]
    positions = [[info["position"]] for info in infos]
    targets: list[list[np.ndarray]] = [[] for _ in envs]
    scored: list[list[bool]] = [[] for _ in envs]
    truncated = False
    while not truncated:
        actions = act({key: np.stack([observation[key] for observation in observations]) for key in observations[0]})
        for k, env in enumerate(envs):
            observations[k], _, _, truncated, info = env.step(actions[k])
            positions[k].append(info["position"])
            targets[k].append(info["target"])
            scored[k].append(info["is_scored"])
    for env in envs:
        env.close()
    where, target, counts = np.array(positions), np.array(targets), np.array(scored)
    distances = np.array([np.linalg.norm(p[1:] - t, axis=1)[c].mean() for p, t, c in zip(where, target, counts, strict=True)])
    stayed = np.array([np.linalg.norm(p[:1] - t, axis=1)[c].mean() for p, t, c in zip(where, target, counts, strict=True)])
    return Evaluation(float(distances.mean() / stayed.mean()), distances, where, target)
