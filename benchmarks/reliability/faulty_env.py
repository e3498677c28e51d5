"""FaultyEnv: an env that goes wrong in one of its episodes out of so many, for the reliability measurements."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

FAULTS = ("none", "raises", "hangs", "dies", "nan reward", "nan observation")


class FaultyEnv(gym.Env):
    """Twenty steps; reward = 1 - (action - observation)^2. The fault happens at step 10 of ``rate`` of all episodes.

    Which episodes these are depends on the reset seed alone.

    :param fault: one of ``FAULTS``.
    :param rate: share of episodes.
    :param step_s: seconds that a step takes.
    """

    def __init__(self, fault: str = "none", rate: float = 0.1, step_s: float = 0.0) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.fault, self.rate, self.step_s = fault, rate, step_s

    def _observation(self) -> np.ndarray:
        return np.array([self.target, self.t / 20], np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """A new target, and perhaps a bad episode."""
        super().reset(seed=seed)
        self.t = 0
        self.target = float(self.np_random.uniform(-1, 1))
        self.is_bad = self.np_random.random() < self.rate
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """The tenth step of a bad episode goes wrong."""
        self.t += 1
        if self.step_s:
            time.sleep(self.step_s)
        reward, observation = 1 - (float(action[0]) - self.target) ** 2, self._observation()
        if self.is_bad and self.t == 10:
            if self.fault == "raises":
                raise RuntimeError("the simulation has diverged")
            if self.fault == "hangs":
                time.sleep(3600)
            if self.fault == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "nan reward":
                reward = float("nan")
            if self.fault == "nan observation":
                observation = observation * np.nan
        return observation, reward, self.t >= 20, False, {}
