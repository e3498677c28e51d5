"""Navigation2D: a point on a plane of 10 x 10 with walls, and goals of all types."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_gogepo.checks import check_choice, check_number
from sb3_gogepo.gpim.relabelling import GOAL_TYPES

SIZE = 10.0
CENTER = np.full(2, SIZE / 2)
#: layout -> walls (x0, y0, x1, y1), each along one axis
LAYOUTS: dict[str, list[tuple[float, float, float, float]]] = {
    "open": [],
    "walls": [(3.0, 4.0, 3.0, 10.0), (7.0, 0.0, 7.0, 6.0)],
}
MARGIN = 1e-3  # how near to a wall the point gets
IMAGE_SIDE = 12
IMAGE_WIDTH = 0.8  # standard deviation of the blob, in units of the plane
MIN_GOAL_DISTANCE = 1.0
TARGET_SPEED = 0.2  # of a moving target, in units a step


class Navigation2D(gym.Env):
    """Move a point by up to ``max_step`` a step along each axis; walls stop it. It starts in the middle.

    ``observation`` is the position, scaled to [-1, 1]. With ``observe_time`` the time follows, scaled to [-1, 1], and in a
    sequence one entry a place: 1 for the place that is due, -1 for the others. The reward is the negative distance to the
    target, in units of the plane. The infos hold ``position``, ``target`` (of this step) and ``is_scored`` (does the distance
    count after this step?).

    :param layout: walls of the plane: ``"walls"``, two of them, or ``"open"``, none.
    :param goal_type: what the target is. ``"fixed"``: a place; ``"dynamic"``: a point that walks from place to place;
        ``"sequence"``: ``n_subgoals`` places to visit in turn, each at the end of an equal share of the time.
    :param goal_space: how goals are described. ``"position"``: coordinates, scaled to [-1, 1]; ``"image"``: a flat picture
        of 12 x 12 grey values.
    :param horizon: length of an episode in steps.
    :param max_step: longest move along each axis in one step, in units of the plane.
    :param n_subgoals: number of places of ``goal_type="sequence"``; without effect otherwise.
    :param observe_time: is the time part of the observation? None: yes, unless the goal is fixed.
    :param render_mode: ``"rgb_array"``, or None: nothing is drawn.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        layout: str = "walls",
        goal_type: str = "fixed",
        goal_space: str = "position",
        horizon: int = 50,
        max_step: float = 0.5,
        n_subgoals: int = 2,
        observe_time: bool | None = None,
        render_mode: str | None = None,
    ) -> None:
        check_choice("layout", layout, tuple(LAYOUTS))
        check_choice("goal_type", goal_type, GOAL_TYPES)
        check_choice("goal_space", goal_space, ("position", "image"))
        check_number("horizon", horizon, minimum=1, integer=True)
        check_number("max_step", max_step, minimum=0, exclusive=True)
        check_number("n_subgoals", n_subgoals, minimum=1, integer=True)
        if goal_type == "sequence" and n_subgoals > horizon:
            raise ValueError(f"n_subgoals must be at most horizon, {horizon}, got {n_subgoals}")
        self.layout, self.goal_type, self.goal_space = layout, goal_type, goal_space
        self.horizon, self.max_step, self.render_mode = horizon, max_step, render_mode
        self.n_subgoals = n_subgoals if goal_type == "sequence" else 1
        self.observe_time = goal_type != "fixed" if observe_time is None else observe_time
        n_places = self.n_subgoals if goal_type == "sequence" else 0
        n_observations = 2 + (1 + n_places if self.observe_time else 0)
        goal_box = (-1.0, 1.0, 2) if goal_space == "position" else (0.0, 1.0, IMAGE_SIDE**2)
        self.observation_space = spaces.Dict(
            observation=spaces.Box(-1, 1, (n_observations,), np.float32),
            achieved_goal=spaces.Box(goal_box[0], goal_box[1], (goal_box[2],), np.float32),
            desired_goal=spaces.Box(goal_box[0], goal_box[1], (goal_box[2] * self.n_subgoals,), np.float32),
        )
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.position, self.targets, self.time = CENTER.copy(), np.zeros((horizon, 2)), 0

    # ------------------------------------------------------------------ goals

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin in the middle with a new goal.

        :param seed: of the env's random generator; None: the generator goes on.
        :param options: ``{"goal": ...}`` holds the place, (2,), or the places, (n_subgoals, 2), in units of the plane; None:
            they are drawn.
        """
        super().reset(seed=seed)
        self.position, self.time = CENTER.copy(), 0
        goal = (options or {}).get("goal")
        places = None if goal is None else np.asarray(goal, dtype=np.float64).reshape(self.n_subgoals, 2)
        if self.goal_type == "dynamic":
            self.targets = self._walk(places)
        else:
            places = np.stack([self.draw_place() for _ in range(self.n_subgoals)]) if places is None else places
            self.targets = places[self._place_due(np.arange(self.horizon))]
        return self._observe(), self._info()

    def _place_due(self, step: Any) -> Any:
        """Which of the places counts in this step, or in each of an array of steps."""
        return step * self.n_subgoals // self.horizon

    def draw_place(self) -> np.ndarray:
        """(2,) position drawn uniformly on the plane, but not next to the start."""
        while True:
            place = self.np_random.uniform(0, SIZE, size=2)
            if np.linalg.norm(place - CENTER) >= MIN_GOAL_DISTANCE:
                return place

    def _walk(self, first: np.ndarray | None) -> np.ndarray:
        """(horizon, 2) positions of a target that walks from the middle to one place after the other, through walls."""
        position, place, path = CENTER.copy(), self.draw_place() if first is None else first[0], []
        for _ in range(self.horizon):
            if np.linalg.norm(place - position) < TARGET_SPEED:
                place = self.draw_place()
            position = position + TARGET_SPEED * (place - position) / np.linalg.norm(place - position)
            path.append(position)
        return np.stack(path)

    def _is_scored(self, step: int) -> bool:
        """Does the distance count after step number ``step``?"""
        if self.goal_type == "dynamic":
            return True
        return step == self.horizon - 1 or bool((self.targets[step] != self.targets[step + 1]).any())

    # ------------------------------------------------------------------ observations

    def describe(self, positions: np.ndarray) -> np.ndarray:
        """(..., 2) positions -> (..., n) goals: scaled to [-1, 1], or as pictures."""
        if self.goal_space == "position":
            return (positions / CENTER - 1).astype(np.float32)
        pixels = (np.arange(IMAGE_SIDE) + 0.5) * SIZE / IMAGE_SIDE
        bells = np.exp(-0.5 * ((positions[..., None] - pixels) / IMAGE_WIDTH) ** 2)  # (..., 2, side)
        picture = bells[..., 1, ::-1, None] * bells[..., 0, None, :]  # rows from the top
        return picture.reshape(*positions.shape[:-1], -1).astype(np.float32)

    def _observe(self) -> dict[str, np.ndarray]:
        step = min(self.time, self.horizon - 1)
        if self.goal_type == "sequence":
            places = self.targets[(np.arange(self.n_subgoals) * self.horizon + self.n_subgoals - 1) // self.n_subgoals]
        else:
            places = self.targets[step][None]
        observation = self.position / CENTER - 1
        if self.observe_time:
            observation = np.append(observation, 2 * self.time / self.horizon - 1)
            if self.goal_type == "sequence":
                is_due = np.arange(self.n_subgoals) == self._place_due(step)
                observation = np.append(observation, np.where(is_due, 1, -1))
        return {
            "observation": observation.astype(np.float32),
            "achieved_goal": self.describe(self.position),
            "desired_goal": self.describe(places).ravel(),
        }

    def _info(self) -> dict[str, Any]:
        step = max(self.time - 1, 0)  # the step just made
        return {
            "position": self.position.copy(),
            "target": self.targets[step].copy(),
            "is_scored": self.time > 0 and self._is_scored(step),
        }

    # ------------------------------------------------------------------ movement

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Move; the episode is truncated after ``horizon`` steps."""
        move = np.clip(np.asarray(action, dtype=np.float64), -1, 1) * self.max_step
        self.position = slide(self.position, move, LAYOUTS[self.layout])
        self.time += 1
        info = self._info()
        distance = float(np.linalg.norm(self.position - info["target"]))
        return self._observe(), -distance, False, self.time >= self.horizon, info

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray:
        """Negative distance between goals, as SB3's HerReplayBuffer wants it; in units of the goal space."""
        return -np.linalg.norm(achieved_goal - desired_goal, axis=-1)

    def render(self) -> np.ndarray | None:
        """(200, 200, 3) picture: walls black, the target red, the point blue."""
        if self.render_mode is None:
            return None
        side = 200
        centers = (np.arange(side) + 0.5) * SIZE / side
        x, y = centers[None, :], centers[::-1, None]
        picture = np.full((side, side, 3), 255, dtype=np.uint8)
        for x0, y0, x1, y1 in LAYOUTS[self.layout]:
            wall = (x > x0 - 0.06) & (x < x1 + 0.06) & (y > y0 - 0.06) & (y < y1 + 0.06)
            picture[wall] = 0
        for place, color in ((self.targets[max(self.time - 1, 0)], (214, 39, 40)), (self.position, (31, 119, 180))):
            picture[(x - place[0]) ** 2 + (y - place[1]) ** 2 < 0.2**2] = color
        return picture


def slide(position: np.ndarray, move: np.ndarray, walls: list[tuple[float, float, float, float]]) -> np.ndarray:
    """(2,) position after moving along x, then along y, each up to the next wall or the plane's edge."""
    result = position.copy()
    for axis in (0, 1):
        start, end = result[axis], result[axis] + move[axis]
        for wall in walls:
            low, high = np.reshape(wall, (2, 2))
            if low[axis] != high[axis] or not low[1 - axis] <= result[1 - axis] <= high[1 - axis]:
                continue
            if start < low[axis] <= end:
                end = low[axis] - MARGIN
            elif start > low[axis] >= end:
                end = low[axis] + MARGIN
        result[axis] = min(max(end, 0.0), SIZE)
    return result


def register_navigation() -> None:
    """``Navigation2D-v0``, known to Gymnasium as soon as the package is imported."""
    if "Navigation2D-v0" not in gym.registry:
        gym.register("Navigation2D-v0", entry_point="sb3_gogepo.gpim.navigation:Navigation2D")
