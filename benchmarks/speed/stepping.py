"""Env steps per second: the bare env, SB3's VecEnv, and GoGePo's episodes without training: ``make bench-stepping``.

All parts take turns in one process, on one thread, so that their ratios do not depend on what else the machine does.
The first table has CPU times; training is measured by ``benchmarks.speed.update_speed``. With ``--n-envs`` the second table
has episodes in that many envs, one process each (SubprocVecEnv), on one core and on as many as there are.
"""

from __future__ import annotations

import argparse
import os
import time

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from benchmarks.speed.update_speed import make_model, median_seconds, step_bare
from sb3_gogepo import GoGePo
from sb3_gogepo.rollouts.rollout import run_episodes


def step_vec_env(env: VecEnv, n_steps: int) -> int:
    """A VecEnv on random actions; returns the env steps made, as the others."""
    env.reset()
    for _ in range(n_steps // env.num_envs):
        env.step(np.stack([env.action_space.sample() for _ in range(env.num_envs)]))
    return n_steps


def run_policies(model: GoGePo, n_steps: int) -> int:
    """Episodes of generated policies, as in training, without training; Swimmer's have 1000 steps each."""
    policy, env = model.policy, model.get_env()
    assert env is not None
    n_policies = n_steps // 1000
    policy_weights = policy.generate_weights(np.zeros(n_policies)).cpu()
    normalize = policy.normalizer.frozen()
    run_episodes(
        env,
        policy.layout,
        policy_weights,
        policy.activation,
        policy.action_map,
        normalize,
        seeds=list(range(n_policies)),
        on_step=lambda *_: True,
        keep_observations=True,
    )
    return 1000 * n_policies


def print_table(title: str, seconds: dict[str, float]) -> None:
    """Speed of each part, and its cost in units of the first one's."""
    first = next(iter(seconds.values()))
    print(f"| {title} | env steps/s | cost |\n|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {1 / value:,.0f} | {value / first:.1f} |")


def compare_one_thread(env_id: str, n_steps: int, rounds: int) -> None:
    """The bare env against everything above it."""
    bare, vec_env = gym.make(env_id), DummyVecEnv([lambda: gym.make(env_id)])
    model = make_model(env_id, {})
    parts = {
        f"bare {env_id}": lambda: step_bare(bare, n_steps),
        "SB3's DummyVecEnv": lambda: step_vec_env(vec_env, n_steps),
        "episodes of generated policies": lambda: run_policies(model, n_steps),
    }
    print_table("one thread", median_seconds(parts, rounds))


def compare_cores(env_id: str, n_envs: int, n_steps: int, rounds: int) -> None:
    """Episodes in one process, in ``n_envs`` processes on one core, and in as many on all cores."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    one_core = GoGePo("MlpPolicy", make_vec_env(env_id, n_envs, vec_env_cls=SubprocVecEnv), seed=0, device="cpu")
    os.sched_setaffinity(0, cores)
    all_cores = GoGePo("MlpPolicy", make_vec_env(env_id, n_envs, vec_env_cls=SubprocVecEnv), seed=0, device="cpu")
    in_process = GoGePo("MlpPolicy", make_vec_env(env_id, n_envs), seed=0, device="cpu")

    def pinned() -> int:
        os.sched_setaffinity(0, {min(cores)})
        n_made = run_policies(one_core, n_steps)
        os.sched_setaffinity(0, cores)
        return n_made

    parts = {
        f"{n_envs} envs in this process": lambda: run_policies(in_process, n_steps),
        f"{n_envs} processes, 1 core": pinned,
        f"{n_envs} processes, {len(cores)} cores": lambda: run_policies(all_cores, n_steps),
    }
    print_table("episodes, SubprocVecEnv", median_seconds(parts, rounds, clock=time.perf_counter))
    for model in (one_core, all_cores):
        assert model.env is not None
        model.env.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="Swimmer-v5", help="one whose episodes have 1000 steps")
    parser.add_argument("--steps", type=int, default=4000, help="env steps a part and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n-envs", type=int, default=4)
    options = parser.parse_args()
    th.set_num_threads(1)
    compare_one_thread(options.env, options.steps, options.rounds)
    print()
    compare_cores(options.env, options.n_envs, options.steps, options.rounds)


if __name__ == "__main__":
    main()
