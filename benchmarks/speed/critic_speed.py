"""The state critic beside SB3's TD3, one thread, in turn: ``python -m benchmarks.speed.critic_speed``.

Env steps a second of CPU time on HalfCheetah, with one critic update an env step each, of the sizes and batches that are each
one's default.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import torch as th
from stable_baselines3 import TD3

from sb3_gogepo import GoGePo


def seconds(act: Callable[[], object]) -> float:
    """CPU time of a call."""
    start = time.process_time()
    act()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000, help="env steps a part and round; 1000 are an episode")
    parser.add_argument("--rounds", type=int, default=5, help="the parts take turns; the median is printed")
    options = parser.parse_args()
    th.set_num_threads(1)
    warm_up: dict[str, Any] = dict(critic_kwargs=dict(learning_starts=1000), n_warm_up_episodes=1)
    models = {
        "SB3's TD3": TD3("MlpPolicy", gym.make("HalfCheetah-v5"), learning_starts=1000, seed=0, device="cpu").learn(1001),
        "GoGePo, critic": GoGePo("HalfCheetah-v5", use_critic=True, **warm_up, seed=0, device="cpu").learn(1001),
        "GoGePo": GoGePo("HalfCheetah-v5", n_warm_up_episodes=1, seed=0, device="cpu").learn(1001),
    }
    steps: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(options.rounds):
        for name, model in models.items():
            before = model.num_timesteps
            spent = seconds(lambda model=model: model.learn(options.steps, reset_num_timesteps=False))  # type: ignore[misc]
            steps[name].append((model.num_timesteps - before) / spent)
    print("| On HalfCheetah, one critic update an env step | env steps a second of CPU time | / SB3's TD3 |\n|---|---|---|")
    base = statistics.median(steps["SB3's TD3"])
    for name, rates in steps.items():
        print(f"| {name} | {statistics.median(rates):.0f} | {statistics.median(rates) / base:.1f} |")


if __name__ == "__main__":
    main()
