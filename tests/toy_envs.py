"""Toy envs whose returns are known by hand."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class ConstantObs(gym.Env):
    """Observation 1; reward = the (first) action; ``length`` steps."""

    def __init__(self, length=3, low=-1.0, high=1.0):
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.action_space = spaces.Box(low, high, (1,), np.float32)
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.ones(1, np.float32), {}

    def reward(self, action):
        return float(np.ravel(action)[0])

    def step(self, action):
        self.t += 1
        return np.ones(1, np.float32), self.reward(action), self.t >= self.length, False, {}


class Square(ConstantObs):
    """One step; return = action ** 2: every return but 0 has two policies."""

    def __init__(self):
        super().__init__(length=1)

    def reward(self, action):
        return float(action[0]) ** 2


class Seeded(gym.Env):
    """Start and episode length are drawn at reset; reward = start + action; records the seed of each reset."""

    def __init__(self, max_length=8):
        self.observation_space = spaces.Box(-10, 10, (2,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.max_length = max_length
        self.seeds = []

    def _observation(self):
        return np.array([self.start, self.t], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.t = 0
        self.start = self.np_random.uniform(-1, 1)
        self.length = int(self.np_random.integers(1, self.max_length + 1))
        return self._observation(), {}

    def step(self, action):
        self.t += 1
        return self._observation(), self.start + float(action[0]), self.t >= self.length, False, {}


class Spaces(gym.Env):
    """Any spaces; random observations; reward 1; ``length`` steps; records the actions."""

    def __init__(self, observation_space, action_space, length=3):
        self.observation_space, self.action_space, self.length = observation_space, action_space, length
        self.actions = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        self.actions.append(np.array(action))
        return self.observation_space.sample(), 1.0, self.t >= self.length, False, {}
