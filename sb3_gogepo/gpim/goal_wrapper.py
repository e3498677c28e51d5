"""GoalWrapper: an env of flat observations as a goal env."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

GoalMap = Callable[[np.ndarray], np.ndarray]


class GoalWrapper(gym.Wrapper):
    """Adds ``achieved_goal`` and ``desired_goal`` to an env whose observation is a flat Box.

    :param env: an env whose observation is a flat Box.
    :param goal_map: which goal an observation achieves: indices of its entries, or a function (n_obs,) -> (n_goal,), which
        may for instance draw a picture; None: the whole observation.
    :param goals: (n_goals, n_goal) desired goals, of which each reset draws one; None: zeros until
        ``reset(options={"goal": ...})``. GPIM's training does not use them.
    :raises ValueError: if the observation is not a flat Box, or the goals have another shape than the map's result.
    """

    def __init__(self, env: gym.Env, goal_map: GoalMap | Sequence[int] | None = None, goals: np.ndarray | None = None) -> None:
        super().__init__(env)
        space = env.observation_space
        if not (isinstance(space, spaces.Box) and len(space.shape) == 1):
            raise ValueError(f"GoalWrapper needs an env of flat Box observations, got {space}")
        if callable(goal_map):
            self.goal_map: GoalMap = goal_map
            goal_space = spaces.Box(-np.inf, np.inf, self._map(np.zeros(space.shape, space.dtype)).shape, np.float32)
        else:
            indices = list(range(space.shape[0])) if goal_map is None else list(goal_map)
            if not all(isinstance(i, (int, np.integer)) and 0 <= i < space.shape[0] for i in indices) or not indices:
                raise ValueError(f"goal_map must be a function or integers in [0, {space.shape[0]}), got {goal_map!r}")
            self.goal_map = lambda observation: observation[indices]
            goal_space = spaces.Box(space.low[indices].astype(np.float32), space.high[indices].astype(np.float32))
        self.goals = None if goals is None else np.asarray(goals, dtype=np.float32)
        if self.goals is not None and self.goals.shape[1:] != goal_space.shape:
            raise ValueError(f"goals must each have the shape {goal_space.shape}, got {self.goals.shape[1:]}")
        self.observation_space = spaces.Dict(observation=space, achieved_goal=goal_space, desired_goal=goal_space)
        self.desired_goal = np.zeros(goal_space.shape, np.float32)

    def _map(self, observation: np.ndarray) -> np.ndarray:
        return np.atleast_1d(np.asarray(self.goal_map(observation), dtype=np.float32))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin with ``options["goal"]``, or else one drawn from ``goals``; the other options go to the env."""
        options = dict(options or {})
        goal = options.pop("goal", None)
        observation, info = self.env.reset(seed=seed, options=options or None)
        if goal is None and self.goals is not None:
            goal = self.goals[int(self.unwrapped.np_random.integers(len(self.goals)))]
        if goal is not None:
            self.desired_goal = np.asarray(goal, dtype=np.float32).reshape(self.desired_goal.shape)
        return self._goal_observation(observation), info

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], Any, bool, bool, dict[str, Any]]:
        """Make the env's step; the observation has goals."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._goal_observation(observation), reward, terminated, truncated, info

    def _goal_observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "observation": observation,
            "achieved_goal": self._map(observation),
            "desired_goal": self.desired_goal.copy(),
        }
