"""Pruning: an episode ends early once it has fallen behind the best ones, and its return is estimated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th

#: Key of ``info`` under which callbacks see that an episode was ended early
PRUNED = "pruned"
#: Steps of an episode that a file may claim; arrays of this size are made of it.
MAX_LENGTH = 10_000_000


class EpisodePruner:
    """Ends running episodes of ``n_envs`` envs early, and keeps their return curves.

    :param lowest_returns: see :func:`~sb3_gogepo.common.rollout.run_actors`.
    """

    def __init__(self, n_envs: int, lowest_returns: np.ndarray | None) -> None:
        self.lowest_returns = lowest_returns
        self.curves: list[list[float]] = [[] for _ in range(n_envs)]

    def mark(self, infos: list[dict[str, Any]], dones: np.ndarray, returns: np.ndarray, lengths: np.ndarray) -> None:
        """Make those that have fallen behind done, and let their infos say so.

        :param returns: (n_envs,) so far.
        :param lengths: (n_envs,) steps made so far.
        """
        for curve, episode_return in zip(self.curves, returns, strict=True):
            curve.append(episode_return)
        if self.lowest_returns is None:
            return
        lowest = self.lowest_returns[np.minimum(lengths, len(self.lowest_returns) - 1)]
        for i in np.flatnonzero((returns < lowest) & ~dones):
            infos[i], dones[i] = {**infos[i], PRUNED: True}, True

    def pop_curve(self, index: int) -> np.ndarray:
        """(length,) the return after each step of the episode of env ``index``, which has ended."""
        curve, self.curves[index] = self.curves[index], []
        return np.array(curve)


class BestEpisodes:
    """How the best episodes so far earned their returns. Others are measured by them.

    An episode has fallen behind once both are true: its return so far is lower than that of every best episode at the
    same step, and it would end below all of them if it went on at its rate. The first alone would end an episode that is
    slow but lasts, where the best ones are fast but fall; the second alone would end all where rewards come late.

    :param n_episodes: how many are the best; as long as there are fewer, none falls behind.
    """

    def __init__(self, n_episodes: int = 10) -> None:
        self.n_episodes = n_episodes
        self.return_curves: list[np.ndarray] = []  # (length,) return after each step, best episode first
        self.longest = 0  # steps of the longest episode so far

    def add(self, return_curve: np.ndarray) -> None:
        """See an episode that was not pruned: (length,) its return after each step."""
        self.longest = max(self.longest, len(return_curve))
        self.return_curves = sorted([*self.return_curves, return_curve], key=lambda curve: -curve[-1])[: self.n_episodes]

    def lowest_returns(self, prune_after: float) -> np.ndarray:
        """(longest + 1,) the lowest return with which an episode of so many steps goes on; -inf where any will do.

        :param prune_after: before this fraction of the longest episode, none has fallen behind.
        """
        lowest = np.full(self.longest + 1, -np.inf)
        if len(self.return_curves) < self.n_episodes:
            return lowest
        steps = np.arange(self.longest + 1)
        at_even_rate = self.return_curves[-1][-1] * steps / self.longest
        held = [np.pad(curve, (1, self.longest - len(curve)), mode="edge") for curve in self.return_curves]
        first = max(1, math.ceil(prune_after * self.longest))
        lowest[first:-1] = np.minimum(at_even_rate, np.min(held, axis=0))[first:-1]
        return lowest

    def estimate(self, episode_return: float, length: int) -> float:
        """The return of an episode pruned after ``length`` steps, had it gone on at its rate as long as the longest."""
        return episode_return * self.longest / length

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        return {
            "return_curves": th.from_numpy(np.concatenate([np.zeros(0), *self.return_curves])),
            "curve_lengths": th.tensor([len(curve) for curve in self.return_curves], dtype=th.int64),
            "longest": self.longest,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; of more episodes than are kept, the best.

        :raises ValueError: if something is missing, not finite, or does not add up.
        """
        returns, lengths, longest = state["return_curves"].double(), state["curve_lengths"], int(state["longest"])
        if returns.ndim != 1 or not bool(th.isfinite(returns).all()):
            raise ValueError("the saved return curves must be one row of finite numbers")
        if not 0 <= longest <= MAX_LENGTH:
            raise ValueError(f"the saved longest episode must have 0 to {MAX_LENGTH} steps, got {longest}")
        if len(lengths) and not (int(lengths.min()) >= 1 and int(lengths.max()) <= longest):
            raise ValueError(f"the saved return curves must have 1 to {longest} steps, got {lengths.tolist()}")
        if int(lengths.sum()) != len(returns):
            raise ValueError(f"the saved return curves must have {int(lengths.sum())} steps together, got {len(returns)}")
        curves = [part.numpy().copy() for part in returns.split(lengths.tolist())] if len(lengths) else []
        self.return_curves, self.longest = curves[: self.n_episodes], longest
