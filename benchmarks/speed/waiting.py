"""How busy the envs of a DummyVecEnv are, and forward passes a step: ``python -m benchmarks.speed.waiting``.

It neither trains nor prunes, so that the numbers depend on the lengths of the episodes only.
"""

from __future__ import annotations

import argparse
from unittest import mock

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from benchmarks.speed.vec_envs import RandomLength
from sb3_gogepo import GoGePo
from sb3_gogepo.networks.policy_weights import BatchedActor


class SameLength(RandomLength):
    """All episodes last ``max_length`` steps."""

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Begin with all steps left."""
        observation, info = super().reset(seed=seed, options=options)
        self.left = self.max_length
        return observation, info


class CountSteps(VecEnvWrapper):
    """Counts the steps of a VecEnv."""

    n_steps = 0

    def reset(self) -> np.ndarray:
        """As it is."""
        return self.venv.reset()  # type: ignore[return-value]

    def step_wait(self) -> tuple:
        """Count."""
        self.n_steps += 1
        return self.venv.step_wait()


def measure(kind: type[RandomLength], n_candidates: int, options: argparse.Namespace) -> tuple[float, float]:
    """(share of the envs that are stepped, forward passes a step of the VecEnv)"""
    env = CountSteps(DummyVecEnv([lambda: kind(options.max_length)] * options.n_envs))
    model = GoGePo("MlpPolicy", env, n_candidates=n_candidates, train_freq=10**9, prune_after=None, seed=0, device="cpu")
    with mock.patch.object(BatchedActor, "__call__", autospec=True, side_effect=BatchedActor.__call__) as forward:
        model.learn(options.steps, log_interval=None)
    return model.num_timesteps / (options.n_envs * env.n_steps), forward.call_count / env.n_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--n-envs", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=200)
    options = parser.parse_args()
    print("| episodes | candidates | busy envs | forward passes a step |\n|---|---|---|---|")
    for kind in (RandomLength, SameLength):
        for n_candidates in (options.n_envs, 2 * options.n_envs, 8 * options.n_envs):
            busy, n_forward = measure(kind, n_candidates, options)
            print(f"| {kind.__name__} | {n_candidates} | {busy:.0%} | {n_forward:.2f} |", flush=True)


if __name__ == "__main__":
    main()
