"""The default presets solve small tasks; minutes each."""

import gymnasium as gym
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_gogepo import UDRL, UDRLPG, GoGePo

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("algorithm", "env_id", "total_timesteps", "threshold"),
    [
        (GoGePo, "MountainCarContinuous-v0", 30_000, 90),
        (GoGePo, "InvertedPendulum-v2", 100_000, 950),
        (UDRLPG, "MountainCarContinuous-v0", 15_000, 90),
        (UDRLPG, "InvertedPendulum-v2", 100_000, 950),
        (UDRL, "CartPole-v1", 200_000, 450),
    ],
)
def test_default_preset_solves(algorithm, env_id, total_timesteps, threshold, seed):
    model = algorithm(env_id, seed=seed, device="cpu").learn(total_timesteps)
    eval_env = Monitor(gym.make(env_id))
    eval_env.reset(seed=1000 + seed)
    mean_return, _ = evaluate_policy(model, eval_env, n_eval_episodes=20)
    assert mean_return >= threshold
