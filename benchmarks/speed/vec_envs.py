"""Env steps and episodes a second in envs whose episodes differ in length: ``python -m benchmarks.speed.vec_envs``.

GoGePo's episodes in 1 and 8 envs, in this process and in one process each. It does not train, and the env costs nothing, so
this is the price of the VecEnv, of the policies' forward pass and of the bookkeeping. Resets an episode are counted by the
envs. It uses what users use only, so that ``PYTHONPATH=<another version> python benchmarks/speed/vec_envs.py`` measures that.
"""

from __future__ import annotations

import argparse
import statistics
import time

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_gogepo import GoGePo


class RandomLength(gym.Env):
    """17 observations and 6 actions, as HalfCheetah; episodes last 1 to ``max_length`` steps, drawn at reset."""

    def __init__(self, max_length: int) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (17,), np.float32)
        self.action_space = spaces.Box(-1, 1, (6,), np.float32)
        self.max_length = max_length
        self.n_resets = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Draw the length."""
        super().reset(seed=seed)
        self.n_resets += 1
        self.left = int(self.np_random.integers(1, self.max_length + 1))
        self.observation = self.np_random.standard_normal(17, dtype=np.float32)
        return self.observation, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Count down."""
        self.left -= 1
        return self.observation, float(action[0]), self.left == 0, False, {}


def make(n_envs: int, vec_env_cls: type[DummyVecEnv] | type[SubprocVecEnv], max_length: int) -> GoGePo:
    """A GoGePo that has made a few episodes and will not train."""
    env = vec_env_cls([lambda: RandomLength(max_length)] * n_envs)
    model = GoGePo("MlpPolicy", env, train_freq=10**9, n_candidates=16, seed=0, device="cpu")
    return model.learn(500, log_interval=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000, help="env steps a part and round")
    parser.add_argument("--rounds", type=int, default=5, help="the parts take turns; the median is printed")
    parser.add_argument("--max-length", type=int, default=200)
    options = parser.parse_args()
    th.set_num_threads(1)
    models = {
        (n_envs, kind.__name__): make(n_envs, kind, options.max_length)
        for kind in (DummyVecEnv, SubprocVecEnv)
        for n_envs in (1, 8)
    }
    seconds: dict[tuple[int, str], list[float]] = {part: [] for part in models}
    made: dict[tuple[int, str], list[int]] = {part: [0, 0, 0] for part in models}
    for _ in range(options.rounds):
        for part, model in models.items():
            assert model.env is not None
            before = model.num_timesteps, model._episode_num, sum(model.env.get_attr("n_resets"))
            start = time.perf_counter()
            model.learn(options.steps, log_interval=None, reset_num_timesteps=False)
            seconds[part].append((time.perf_counter() - start) / (model.num_timesteps - before[0]))
            after = model.num_timesteps, model._episode_num, sum(model.env.get_attr("n_resets"))
            made[part] = [total + b - a for total, a, b in zip(made[part], before, after, strict=True)]
    print("| envs | VecEnv | env steps/s | episodes/s | resets an episode |\n|---|---|---|---|---|")
    for (n_envs, kind), times in seconds.items():
        n_steps, n_episodes, n_resets = made[n_envs, kind]
        steps_a_second = 1 / statistics.median(times)
        episodes_a_second = steps_a_second * n_episodes / n_steps
        print(f"| {n_envs} | {kind} | {steps_a_second:,.0f} | {episodes_a_second:,.0f} | {n_resets / n_episodes:.2f} |")
        env = models[n_envs, kind].env
        assert env is not None
        env.close()


if __name__ == "__main__":
    main()
