"""From a backend's name and an env to the backend."""

from __future__ import annotations

from collections.abc import Callable

import cloudpickle
import gymnasium as gym
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_gogepo.rollouts.workers.interface import Backend, PoolSettings


def copy_env(env: VecEnv) -> Callable[[], gym.Env]:
    """A function that makes copies of the (first) env of a DummyVecEnv.

    :raises ValueError: for another VecEnv, or an env that cannot be pickled.
    """
    if not isinstance(env, DummyVecEnv):
        raise ValueError(
            f"workers cannot copy the envs of a {type(env).__name__}: pass env as an id, a single env, or a function that "
            "makes one; in place of VecNormalize, use normalize_observations"
        )
    single = env.envs[0]
    while isinstance(single, Monitor):  # workers have a Monitor of their own; this one may hold an open file
        single = single.env
    try:
        pickled = cloudpickle.dumps(single)
    except Exception as error:
        raise ValueError(f"{single} cannot be pickled ({error}): pass env as a function that makes it") from error
    return lambda: cloudpickle.loads(pickled)


def make_backend(name: str, env_fn: Callable[[], gym.Env], settings: PoolSettings) -> Backend:
    """The backend called ``"subprocess"`` or ``"ray"``."""
    env_pickle = cloudpickle.dumps(env_fn)
    if name == "ray":
        from sb3_gogepo.rollouts.workers.ray_backend import RayBackend

        return RayBackend(env_pickle, settings)
    from sb3_gogepo.rollouts.workers.process_backend import ProcessBackend

    return ProcessBackend(env_pickle, settings)
