"""Pruning: an episode ends early once it has fallen behind the best ones, and its return is estimated."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from sb3_gogepo.envs import ask, attribute_of

#: Key of ``info`` under which callbacks see that an episode was ended early; an env may have such a key of its own
PRUNED = "pruned"


def has_fallen_behind(episode_return: float, length: int, lowest_returns: np.ndarray) -> bool:
    """Is the return after ``length`` steps lower than an episode needs to go on?

    :param lowest_returns: see :meth:`BestEpisodes.lowest_returns`.
    """
    return bool(episode_return < lowest_returns[min(length, len(lowest_returns) - 1)])


def full_return(episode_return: float, length: int, full_length: int) -> float:
    """The return of an episode pruned after ``length`` steps, had it gone on at its rate for ``full_length``."""
    return episode_return * full_length / length


def monitor_record(
    env: VecEnv, index: int, episode_return: float, length: int, full_length: int, info: dict[str, Any]
) -> dict[str, Any]:
    """``{"episode": ...}`` as the Monitor around env ``index`` gives it, for a pruned episode; empty without a Monitor.

    :param info: as the env gave it after the last step. Of the Monitor's ``info_keywords``, those that are not in it are NaN:
        an env may give them when an episode ends, which this one did not.
    """
    if not ask(lambda: env.env_is_wrapped(Monitor, [index])[0], otherwise=False):
        return {}
    start, keywords, extra = (
        attribute_of(env, name, otherwise, index)
        for name, otherwise in (("t_start", math.nan), ("info_keywords", ()), ("current_reset_info", {}))
    )
    record = {
        "r": round(full_return(episode_return, length, full_length), 6),
        "l": full_length,
        "t": round(time.time() - start, 6),
    }
    return {"episode": {**record, **{key: info.get(key, math.nan) for key in keywords}, **extra}}


class BestEpisodes:
    """How the best episodes so far earned their returns. Others are measured by them.

    An episode has fallen behind once both are true: its return so far is lower than that of every best episode at the
    same step, and it would end below all of them if it went on at its rate. The second alone would end all where rewards
    come late. Where episodes differ in length, to last longer is part of what is learned, and the rate says little: nobody
    has fallen behind there.

    :param n_episodes: how many are the best; as long as there are fewer, none falls behind.
    """

    def __init__(self, n_episodes: int = 10) -> None:
        self.n_episodes = n_episodes
        self.return_curves = np.empty((0, 0))  # (n_episodes or fewer, length): return after each step, best episode first
        self.length = 0  # of the first episode
        self.lengths_differ = False

    def add(self, return_curve: np.ndarray) -> None:
        """See an episode that was not pruned: (length,) its return after each step."""
        self.length = self.length or len(return_curve)
        if self.lengths_differ or len(return_curve) != self.length:
            self.lengths_differ, self.return_curves = True, np.empty((0, 0))
            return
        curves = np.stack([*self.return_curves, return_curve])
        best = np.argsort(-curves[:, -1], kind="stable")
        self.return_curves = curves[best[: self.n_episodes]]

    def lowest_returns(self, prune_after: float) -> np.ndarray:
        """(length + 1,) the lowest return with which an episode of so many steps goes on; -inf where any will do.

        :param prune_after: before this fraction of an episode, none has fallen behind.
        """
        if len(self.return_curves) < self.n_episodes:
            return np.array([-np.inf])
        lowest = np.full(self.length + 1, -np.inf)
        at_even_rate = self.return_curves[-1, -1] * np.arange(1, self.length + 1) / self.length
        first = max(1, math.ceil(prune_after * self.length))
        lowest[first:-1] = np.minimum(at_even_rate, self.return_curves.min(axis=0))[first - 1 : -1]
        return lowest

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        return {"return_curves": th.from_numpy(self.return_curves), "lengths_differ": self.lengths_differ}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; of more episodes than are kept, the best.

        :raises ValueError: if something is missing, not finite, or no return curves.
        """
        curves = state["return_curves"].double()
        if curves.ndim != 2 or (len(curves) == 0) != (curves.shape[1] == 0) or not bool(th.isfinite(curves).all()):
            raise ValueError(f"the saved return curves must be rows of finite numbers, got shape {tuple(curves.shape)}")
        if not isinstance(state["lengths_differ"], bool):
            raise ValueError(f"the saved lengths_differ must be True or False, got {state['lengths_differ']!r}")
        self.return_curves = curves[: self.n_episodes].numpy().copy()
        self.length, self.lengths_differ = curves.shape[1], state["lengths_differ"]
