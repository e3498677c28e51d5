"""Pruning: an episode ends early once it has fallen behind the best ones, and its return is estimated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th

#: Key of ``info`` under which callbacks see that an episode was ended early; an env may have such a key of its own
PRUNED = "pruned"


class EpisodePruner:
    """Ends running episodes of ``n_envs`` envs early, and keeps their return curves.

    :param lowest_returns: see :func:`~sb3_gogepo.rollouts.rollout.run_actors`. None: it does nothing.
    """

    def __init__(self, n_envs: int, lowest_returns: np.ndarray | None) -> None:
        self.lowest_returns = lowest_returns
        self.curves: list[list[float]] = [[] for _ in range(n_envs)]
        self.pruned = np.zeros(n_envs, dtype=bool)

    def mark(self, infos: list[dict[str, Any]], dones: np.ndarray, returns: np.ndarray, lengths: np.ndarray) -> None:
        """Make those that have fallen behind done, and let their infos say so; whether they succeeded is not known.

        :param returns: (n_envs,) so far.
        :param lengths: (n_envs,) steps made so far.
        """
        if self.lowest_returns is None:
            return
        for curve, episode_return in zip(self.curves, returns, strict=True):
            curve.append(episode_return)
        lowest = self.lowest_returns[np.minimum(lengths, len(self.lowest_returns) - 1)]
        for i in np.flatnonzero((returns < lowest) & ~dones):
            infos[i] = {key: value for key, value in infos[i].items() if key != "is_success"} | {PRUNED: True}
            dones[i] = self.pruned[i] = True

    def pop(self, index: int) -> tuple[np.ndarray | None, bool]:
        """Of the episode of env ``index``, which has ended: (length,) the return after each step, and was it pruned?"""
        if self.lowest_returns is None:
            return None, False
        curve, self.curves[index] = self.curves[index], []
        pruned, self.pruned[index] = bool(self.pruned[index]), False
        return np.array(curve), pruned


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

    def estimate(self, episode_return: float, length: int) -> float:
        """The return of an episode pruned after ``length`` steps, had it gone on at its rate."""
        return episode_return * self.length / length

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
