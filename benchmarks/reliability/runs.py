"""The runs that ``benchmarks.reliability`` kills, and what makes two of them equal."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib import ARS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_gogepo import UDRL, UDRLPG, GoGePo, ResumableCheckpointCallback, latest_checkpoint
from sb3_gogepo.saving.atomic_files import write_atomically

#: a run of a second or two: about 22 episodes and 10 trainings, a checkpoint after every 20 env steps
TOTAL_STEPS = 400
SAVE_FREQ = 20
SEED = 7
LEARNING = "learning"  # file in a run's folder
GENERATOR = dict(net_arch=[16, 16], tile_size=16, generator_net_arch=[32, 32])
COMMON = dict(train_freq=(2, "episode"), buffer_size=100, seed=SEED, device="cpu")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "GoGePo": dict(policy_kwargs=GENERATOR, **COMMON),
    "UDRLPG": dict(policy_kwargs=GENERATOR, gradient_steps=10, n_warm_up_episodes=5, **COMMON),
    "UDRL": dict(gradient_steps=10, n_warm_up_episodes=10, n_candidates=4, **COMMON),
    "ARS": dict(n_delta=4, seed=SEED, device="cpu"),
}
ALGORITHMS: dict[str, Any] = {"GoGePo": GoGePo, "UDRLPG": UDRLPG, "UDRL": UDRL, "ARS": ARS}


class Wind(gym.Env):
    """Push a cart against wind for 8 to 29 steps: an episode's length and start come from the env's own generator.

    The wind comes from NumPy's global generator, as in envs whose authors did not care for seeds.
    """

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(8, 30))
        self.state = self.np_random.uniform(-1, 1, size=2)
        return self._observation(), {}

    def _observation(self) -> np.ndarray:
        return np.array([*self.state, self.left / 30], np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One push; the reward is higher near the middle."""
        position, velocity = self.state
        velocity += 0.1 * float(action[0]) + 0.02 * np.random.normal()
        self.state = np.array([position + 0.1 * velocity, 0.99 * velocity])
        self.left -= 1
        return self._observation(), 1.0 - abs(float(position)), False, self.left <= 0, {}


def make_env(n_envs: int) -> VecEnv:
    """One plain env, or several under VecNormalize."""
    env = make_vec_env(Wind, n_envs)
    return env if n_envs == 1 else VecNormalize(env)


def fingerprint(model: BaseAlgorithm) -> dict[str, str]:
    """Hashes of all that a run depends on: equal runs have equal ones, bit for bit."""
    names = (
        "num_timesteps",
        "_n_updates",
        "_episode_num",
        "_candidate_num",
        "_untrained_amount",
        "best_return",
        "worst_return",
    )
    counters = {name: getattr(model, name, None) for name in names}
    parts: dict[str, Any] = {
        "parameters": model.get_parameters(),
        "counters": counters,
        "command": getattr(model, "command", None),
        "episodes": [(info["r"], info["l"]) for info in model.ep_info_buffer or ()],
        "torch generator": th.get_rng_state(),
        "numpy generator": np.random.get_state(),
        "python generator": random.getstate(),
    }
    if hasattr(model, "replay_buffer"):
        parts["buffer"] = model.replay_buffer.state_dict()
    normalizer = model.get_vec_normalize_env()
    if normalizer is not None:
        statistics = (normalizer.obs_rms, normalizer.ret_rms)
        parts["vec_normalize"] = [(part.mean, part.var, part.count) for part in statistics]  # type: ignore[union-attr]
        parts["vec_normalize returns"] = normalizer.returns
    return {name: hashlib.sha256(_as_bytes(part)).hexdigest()[:16] for name, part in parts.items()}


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, th.Tensor):
        return value.detach().cpu().numpy().tobytes()
    if isinstance(value, (np.ndarray, np.generic)):  # SB3's RunningMeanStd holds either, for the same number
        return value.tobytes()
    if isinstance(value, dict):
        return b"".join(str(key).encode() + _as_bytes(value[key]) for key in sorted(value, key=str))
    if isinstance(value, (list, tuple)):
        return b"".join(_as_bytes(item) for item in value)
    return repr(value).encode()


class SayLearning(BaseCallback):
    """Make a file when ``learn`` has begun: the handlers of the callbacks before this one are there."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def _on_training_start(self) -> None:
        self.path.touch()

    def _on_step(self) -> bool:
        return True


def run(algorithm: str, n_envs: int, folder: Path, save_freq: int, total_steps: int) -> BaseAlgorithm:
    """Begin the run, or go on with it from the newest checkpoint in ``folder``, to its end."""
    env = make_env(n_envs)
    if algorithm == "ARS":
        model: Any = _load_ars(env, folder)
        callback: Any = CheckpointCallback(max(save_freq // n_envs, 1), str(folder), name_prefix="ars")
    else:
        callback = ResumableCheckpointCallback(save_freq, folder)
        if latest_checkpoint(folder):
            model = ALGORITHMS[algorithm].load_checkpoint(folder, env)
        else:
            model = ALGORITHMS[algorithm]("MlpPolicy", env, **ARGUMENTS[algorithm])
    rest = total_steps - model.num_timesteps
    if rest > 0:
        model.learn(rest, callback=[callback, SayLearning(folder / LEARNING)], reset_num_timesteps=False)
    return model


def _load_ars(env: VecEnv, folder: Path) -> ARS:
    """The newest of ARS's checkpoints that can be loaded."""
    zips = sorted(folder.glob("ars_*_steps.zip"), key=lambda path: -int(path.stem.split("_")[1]))
    for path in zips:
        try:
            return ARS.load(path, env=env, device="cpu")
        except Exception as error:  # a half-written file
            print(f"{path.name}: {error!r}")
    return ARS("MlpPolicy", env, **ARGUMENTS["ARS"])


def run_to_the_end(algorithm: str, n_envs: int, folder: Path, save_freq: int, total_steps: int) -> None:
    """A whole process's work: the run, and its fingerprint in a file."""
    th.set_num_threads(1)
    # Only checkpoints may bring back the generators of a run that goes on
    is_new = not any(folder.iterdir())
    np.random.seed(SEED if is_new else None)
    random.seed(SEED if is_new else None)
    model = run(algorithm, n_envs, folder, save_freq, total_steps)
    lines = "\n".join(f"{name}: {value}" for name, value in fingerprint(model).items())
    write_atomically(folder / "fingerprint.txt", lines.encode(), suffix="")
