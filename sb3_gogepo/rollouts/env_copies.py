"""While workers run copies of an env, changes to the env itself would reach nobody: they are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

#: Methods that only look at an env begin so, or are these
READING = ("get_", "has_", "is_", "render", "close", "class_name", "__")


class LockedEnvs(list):
    """``envs`` of a DummyVecEnv whose episodes run elsewhere; ``real`` are the envs."""

    def __init__(self, real: list[Any], refuse: Callable[[str], NoReturn]) -> None:
        super().__init__(_LockedEnv(env, refuse) for env in real)
        self.real = real


class _LockedEnv:
    """Shows an env's attributes, and refuses to set them or to call methods that may change it."""

    def __init__(self, env: Any, refuse: Callable[[str], NoReturn]) -> None:
        self.__dict__.update(_env=env, _refuse=refuse)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._env, name)
        if name in ("unwrapped", "env"):
            return _LockedEnv(value, self._refuse)
        return self._show if name == "get_wrapper_attr" else self._checked(name, value)

    def _show(self, name: str) -> Any:
        return self._checked(name, self._env.get_wrapper_attr(name))

    def _checked(self, name: str, value: Any) -> Any:
        if callable(value) and not name.startswith(READING):
            self._refuse(f"{name}()")
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        self._refuse(f"{name} =")


def refuse_changes(env: VecEnv, rollout_backend: str) -> Callable[[], None]:
    """Let ``set_attr``, ``env_method`` and changes of ``envs[i]`` raise; returns what undoes that.

    :raises RuntimeError: from then on, by such a change.
    """

    def refuse(what: str, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            f'{what} would change an env that runs no episode: with rollout_backend="{rollout_backend}", workers have envs of '
            'their own. Use rollout_backend="in-process", or let the function that makes the env read what changes'
        )

    inner: Any = env.unwrapped
    inner.set_attr = lambda name, *args, **kwargs: refuse(f"set_attr({name!r})")
    inner.env_method = lambda name, *args, **kwargs: refuse(f"env_method({name!r})")
    envs = inner.envs if isinstance(inner, DummyVecEnv) else None
    if envs is not None:
        inner.envs = LockedEnvs(envs, refuse)

    def undo() -> None:
        del inner.set_attr, inner.env_method
        if envs is not None:
            inner.envs = envs

    return undo
