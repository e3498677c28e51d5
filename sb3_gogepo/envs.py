"""Making envs, and what the package knows of MuJoCo's: the papers' ids, and the bonus for staying alive.

The ids (Hopper-v3, ...) run on the maintained v4 classes.

Gymnasium 1.x still lists the v2 and v3 ids, but making one fails: mujoco-py, which they need, is gone. The v4 classes
have the same dynamics and rewards on the maintained bindings. Importing gymnasium_robotics points them at mujoco-py
again; an algorithm that is given one of them points it back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar, cast

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, registry
from gymnasium.error import Error as GymnasiumError
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv

from sb3_gogepo.checks import check_number

Answer = TypeVar("Answer")

_VERSIONS = {
    "Ant": ("v2", "v3"),
    "HalfCheetah": ("v2", "v3"),
    "Hopper": ("v2", "v3"),
    "Humanoid": ("v2", "v3"),
    "InvertedDoublePendulum": ("v2",),
    "InvertedPendulum": ("v2",),
    "Reacher": ("v2",),
    "Swimmer": ("v2", "v3"),
    "Walker2d": ("v2", "v3"),
}
#: legacy id -> the id whose class it runs on
LEGACY_IDS = {f"{name}-{version}": f"{name}-v4" for name, versions in _VERSIONS.items() for version in versions}


def register_legacy_ids() -> None:
    """Point the legacy ids at the v4 classes. An id that somebody registered anew is left alone."""
    for legacy_id, id_ in LEGACY_IDS.items():
        old, new = registry.get(legacy_id), registry.get(id_)
        if new is None or (old is not None and not _needs_mujoco_py(old)):
            continue
        kwargs = dict(new.kwargs)
        if legacy_id.startswith("Ant-"):
            kwargs["use_contact_forces"] = True  # v4 switched off what v2 and v3 observe: 111 dimensions, not 27
        # gymnasium.register would warn that the id exists already
        registry[legacy_id] = EnvSpec(
            id=legacy_id,
            entry_point=new.entry_point,
            reward_threshold=new.reward_threshold,
            max_episode_steps=new.max_episode_steps,
            kwargs=kwargs,
        )


def _needs_mujoco_py(spec: EnvSpec) -> bool:
    """Does the id lead to what needs mujoco-py: Gymnasium's function that raises, or gymnasium_robotics' old class?"""
    entry_point = spec.entry_point
    module = entry_point if isinstance(entry_point, str) else getattr(entry_point, "__module__", "")
    return module.startswith(("gymnasium.", "gymnasium_robotics.envs.mujoco."))


def is_env_fn(env: object) -> TypeGuard[Callable[[], gym.Env]]:
    """Is it a function that makes an env?"""
    return callable(env) and not isinstance(env, (gym.Env, VecEnv))


def make_env(env: GymEnv | Callable[[], gym.Env] | str, verbose: int = 0) -> GymEnv:
    """The env itself, or the one that an id or a function stands for.

    :raises ValueError: for an unknown id.
    """
    register_legacy_ids()  # gymnasium_robotics may have been imported since
    if isinstance(env, str) and verbose >= 1 and env in LEGACY_IDS:
        print(f"{env} needs mujoco-py, which is gone: using the dynamics and rewards of {LEGACY_IDS[env]}.")
    try:
        return env() if is_env_fn(env) else maybe_make_env(cast(GymEnv, env), 0)
    except GymnasiumError as error:
        raise ValueError(f"env must be a Gymnasium env or a registered id, got {env!r}: {error}") from error


def ask(question: Callable[[], Answer], otherwise: Answer) -> Answer:
    """What a VecEnv answers, or ``otherwise`` if it cannot.

    One that has no single envs behind it, such as a batched simulator, may refuse any method but ``reset`` and ``step``, each
    with an error of its own.
    """
    try:
        return question()
    except Exception:
        return otherwise


def attribute_of(env: VecEnv, name: str, otherwise: Any = None, index: int = 0) -> Any:
    """An attribute of one of the envs behind a VecEnv; ``otherwise`` if it has none, or does not tell."""
    # not every VecEnv takes a single index, and a SubprocVecEnv's process would end if it had to get what is not there
    return ask(lambda: env.get_attr(name, [index])[0] if env.has_attr(name) else otherwise, otherwise)


def check_early_resets(env: VecEnv) -> None:
    """Raise if a Monitor forbids them: what is pruned or discarded ends early, and ``learn`` begins with a reset."""
    if attribute_of(env, "allow_early_resets") is False:
        raise ValueError(
            "env must be in no Monitor(allow_early_resets=False), since episodes may be ended early, got one; "
            "SB3's default is allow_early_resets=True"
        )


def alive_bonus(env: VecEnv) -> float:
    """What Gymnasium's walking robots (Hopper, Walker2d, Ant, Humanoid) are paid for a step before they fall; else 0.

    They are told from other envs by the attributes that hold the bonus and say that a fall ends the episode. The inverted
    pendulums, whose whole task is to stay up, lack the second one.
    """
    match [attribute_of(env, name) for name in ("_terminate_when_unhealthy", "_healthy_reward")]:
        case [True, int() | float() as bonus]:
            return float(bonus)
        case _:
            return 0.0


def settle_alive_bonus_offset(value: float | None, env: VecEnv | None, verbose: int) -> float:
    """What is added to each step's reward: ``value``, or, where the user leaves it open, minus the env's :func:`alive_bonus`.

    :raises ValueError: if ``value`` is no finite number.
    """
    if value is not None:
        check_number("alive_bonus_offset", value)
        return value
    bonus = 0.0 if env is None else alive_bonus(env)
    if bonus and verbose >= 1:
        print(
            f"The env pays {bonus:g} a step for staying alive. Commands and the returns learned from are without it;"
            " alive_bonus_offset=0 keeps it."
        )
    return 0.0 - bonus
