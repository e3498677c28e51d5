"""Envs that go wrong, in the episodes whose reset seed says so; importable, so that workers can make them."""

import multiprocessing
import os
import signal
import time

import numpy as np

from tests.toy_envs import Seeded


class Faulty(Seeded):
    """:class:`Seeded` with four steps; in an episode that starts above ``threshold`` the second step calls ``fault``."""

    def __init__(self, fault="nothing", threshold=0.5):
        super().__init__()
        self.fault, self.threshold = fault, threshold

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed, options=options)
        self.length = 4
        if self.start > self.threshold and self.fault == "reset raises":
            raise RuntimeError("cannot be reset")
        return observation, info

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if self.t == 2 and self.start > self.threshold:
            return self.go_wrong(observation, reward, terminated, truncated, info)
        return observation, reward, terminated, truncated, info

    def go_wrong(self, observation, reward, *others):
        if self.fault == "raises":
            raise RuntimeError("the simulation has diverged")
        if self.fault == "hangs":
            time.sleep(1000)
        if self.fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        values = {"nan": np.nan, "inf": -np.inf, "huge": 1e30}
        what, _, value = self.fault.partition(" ")
        if what == "observation":
            observation = observation * np.float32(values[value])
        if what == "reward":
            reward = values[value]
        return observation, reward, *others


class DiesOnce(Seeded):
    """Kills its process in the first episode of all; ``marker`` is a file that tells others of it."""

    def __init__(self, marker):
        super().__init__()
        self.marker = marker

    def step(self, action):
        if not os.path.exists(self.marker):
            with open(self.marker, "w"):
                os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


def only_in_the_driver():
    if multiprocessing.parent_process() is not None:
        raise RuntimeError("no licence")
    return Seeded()
