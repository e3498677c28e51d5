"""What may go wrong in an episode: numbers that are not finite, and envs that raise. Such episodes are discarded."""

from __future__ import annotations

import math
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

#: Key of ``info`` under which :class:`FaultGuard` reports a traceback
ENV_FAULT = "env_fault"
#: Key of ``info`` under which callbacks see why an episode is discarded, in place of everything else
DISCARDED = "discarded"
#: That many discarded episodes (or lost workers), with no good one between them, end the training. A run in which half of
#: all episodes are bad meets 20 bad ones in a row once in a million episodes.
MAX_DISCARDED_IN_A_ROW = 20


class NonFiniteError(ValueError):
    """NaN or infinity in an observation, an action, a reward, generated weights or a loss; with ``on_non_finite="raise"``."""


class EnvFailedError(RuntimeError):
    """The env, or the process that runs it, keeps failing."""


class DiscardedEpisodeWarning(UserWarning):
    """An episode was discarded, or a gradient step skipped."""


class Discard(NamedTuple):
    """Why an episode must not be learned from; ``is_fault``: the env failed, otherwise a number was not finite."""

    reason: str
    is_fault: bool


class FaultGuard(gym.Wrapper):
    """Ends the episode where the env raises: a step with reward 0, truncated, whose ``info`` holds the traceback.

    If ``reset`` raises, the first step afterwards is such a step, and the env is left alone until the next reset.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.fault: str | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.env, name)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """As the env's; an observation of zeros if that raises."""
        self.fault = None
        try:
            return self.env.reset(**kwargs)
        except Exception:
            self.fault = traceback.format_exc()
            return self._zeros(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the env's; the end of the episode if that raises."""
        if self.fault is None:
            try:
                return self.env.step(action)
            except Exception:
                self.fault = traceback.format_exc()
        return self._zeros(), 0.0, False, True, {ENV_FAULT: self.fault}

    def _zeros(self) -> np.ndarray:
        space = self.observation_space
        assert isinstance(space, spaces.Box)
        return np.zeros(space.shape, space.dtype)


@contextmanager
def guarded(env: VecEnv) -> Iterator[None]:
    """Within this context an exception of one env of a DummyVecEnv ends that env's episode, and no other.

    :raises EnvFailedError: if a process of a SubprocVecEnv ends; such an env cannot be started again.
    """
    vec_env = env.unwrapped
    if isinstance(vec_env, DummyVecEnv):
        unguarded = vec_env.envs
        vec_env.envs = [FaultGuard(one) for one in unguarded]
        try:
            yield
        finally:
            vec_env.envs = unguarded
        return
    try:
        yield
    except (EOFError, ConnectionError) as error:
        if not isinstance(vec_env, SubprocVecEnv):
            raise
        dead = [i for i, process in enumerate(vec_env.processes) if not process.is_alive()]
        raise EnvFailedError(
            f"the process of env {', '.join(map(str, dead)) or '?'} of the SubprocVecEnv has ended, and SubprocVecEnv cannot "
            'start it again; if it raised, its traceback was printed before. rollout_backend="subprocess" restarts envs'
        ) from error


class Discards:
    """Which of ``n_envs`` running episodes are to be discarded, and why."""

    def __init__(self, n_envs: int) -> None:
        self.reasons: list[Discard | None] = [None] * n_envs

    def only_finite(self, what: str, values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """(n_envs, ...) values, zeros in place of NaN and infinity; their envs' episodes are discarded.

        :param lengths: (n_envs,) steps made so far.
        """
        if math.isfinite(values.sum()):  # in one go: nearly always
            return values
        flat = values.reshape(len(values), -1)
        finite = np.isfinite(flat)
        for i in np.flatnonzero(~finite.all(axis=1)):
            reason = f"{what} {flat[i][~finite[i]][0]} at step {lengths[i] + 1}"
            self.reasons[i] = self.reasons[i] or Discard(reason, is_fault=False)
        return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)

    def mark(self, infos: Any, dones: np.ndarray, lengths: np.ndarray, can_end_early: bool) -> list[dict[str, Any]]:
        """Infos that say, of discarded episodes, nothing but that; if ``can_end_early``, these are done.

        :param lengths: (n_envs,) steps made, this one included.
        """
        infos = list(infos)
        for i in np.flatnonzero(dones):
            if ENV_FAULT in infos[i]:
                self.reasons[i] = Discard(f"the env failed at step {lengths[i]}:\n{infos[i][ENV_FAULT]}", is_fault=True)
        for k, discard in enumerate(self.reasons):
            if discard is not None:
                infos[k] = {DISCARDED: discard.reason}
                dones[k] = dones[k] or can_end_early
        return infos

    def pop(self, index: int) -> Discard | None:
        """Why the episode of env ``index``, which has ended, is to be discarded; None: it is not."""
        reason, self.reasons[index] = self.reasons[index], None
        return reason


def step_if_finite(optimizer: th.optim.Optimizer, loss: th.Tensor) -> th.Tensor:
    """Back-propagate ``loss`` and step, unless loss or gradients are NaN, infinite, or too large to be squared.

    A fused optimizer learns of it on the device, as from ``torch.amp.GradScaler``: nobody waits for a GPU.

    :return: the loss, detached; nan if no step was made.
    """
    optimizer.zero_grad()
    loss.backward()
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norms = th._foreach_norm(gradients)  # infinite where a square overflows, which Adam's second moment must not see
    is_finite = th.isfinite(th.stack([loss.detach(), *norms]).sum())
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.found_inf  # type: ignore[attr-defined]
    elif bool(is_finite):
        optimizer.step()
    return th.where(is_finite, loss.detach(), th.nan)


def warn(message: str) -> None:
    """Say that something was discarded."""
    warnings.warn(message, DiscardedEpisodeWarning, stacklevel=3)
