"""EpisodeBuffer: the episodes of the highest return, and batches of (observation, command, action) from them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_gogepo.buffers.saved_rows import check_rows
from sb3_gogepo.checks import check_number


class EpisodeBufferSamples(NamedTuple):
    """A batch of steps.

    :param observations: (batch_size, n_obs) raw observations.
    :param actions: (batch_size, n_actions) actions, scaled to [-1, 1] (Box), or choices from 0 (Discrete).
    :param rewards: (batch_size,) reward of each step.
    :param returns_to_go: (batch_size,) sum of the rewards of the step and of all later ones of its episode.
    :param horizons: (batch_size,) number of steps from this one to the end of its episode, itself included.
    """

    observations: th.Tensor
    actions: th.Tensor
    rewards: th.Tensor
    returns_to_go: th.Tensor
    horizons: th.Tensor


class StoredEpisode(NamedTuple):
    """One episode: observations (length, n_obs), actions (length, n_actions), rewards (length,) and their sum."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    episode_return: float


class EpisodeBuffer:
    """The ``buffer_size`` episodes of the highest return, in ascending order; of equal returns, the newest stay.

    :param buffer_size: number of episodes kept.
    :param n_obs: size of an observation.
    :param n_actions: size of a scaled action: that of a Box's, or 1 for a Discrete space.
    :param seed: of the buffer's random generator; None: it is seeded by the system.
    :param device: where samples are put.
    :raises ValueError: if ``buffer_size`` is no integer >= 1.
    """

    def __init__(
        self, buffer_size: int, n_obs: int, n_actions: int, seed: int | None = None, device: th.device | str = "cpu"
    ) -> None:
        check_number("buffer_size", buffer_size, minimum=1, integer=True)
        self.buffer_size = buffer_size
        self.n_obs, self.n_actions = n_obs, n_actions
        self.device = th.device(device)
        self.rng = np.random.default_rng(seed)
        self._episodes: list[StoredEpisode] = []
        self._steps: EpisodeBufferSamples | None = None  # of all episodes, concatenated; None: the contents have changed

    def seed(self, seed: int) -> None:
        """Start the buffer's random generator anew."""
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self._episodes)

    @property
    def stored_returns(self) -> np.ndarray:
        """(n_stored,) returns, the lowest first."""
        return np.array([episode.episode_return for episode in self._episodes])

    @property
    def lengths(self) -> np.ndarray:
        """(n_stored,) lengths in env steps, of the lowest return first."""
        return np.array([len(episode.rewards) for episode in self._episodes], dtype=np.int64)

    @property
    def stored_rewards(self) -> np.ndarray:
        """(n_steps,) rewards of the steps of all episodes."""
        return np.concatenate([episode.rewards for episode in self._episodes])

    def add(self, observations: np.ndarray, actions: np.ndarray, rewards: np.ndarray) -> None:
        """Store one episode, unless the buffer is full of better ones.

        :param observations: (length, n_obs) raw observations.
        :param actions: (length, n_actions) scaled actions.
        :param rewards: (length,) rewards.
        :raises ValueError: if something is not finite; the buffer is unchanged then.
        """
        if not all(np.isfinite(part).all() for part in (observations, actions, rewards)):
            raise ValueError("only finite episodes can be stored")
        episode = StoredEpisode(
            observations=np.asarray(observations, dtype=np.float32),
            actions=np.asarray(actions, dtype=np.float32),
            rewards=np.asarray(rewards, dtype=np.float32),
            episode_return=float(np.sum(rewards, dtype=np.float64)),
        )
        place = int(np.searchsorted(self.stored_returns, episode.episode_return, side="right"))
        self._episodes.insert(place, episode)
        del self._episodes[: max(len(self) - self.buffer_size, 0)]
        self._steps = None

    def best(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns and lengths of the ``n`` best episodes, or of all if there are fewer."""
        return self.stored_returns[-n:], self.lengths[-n:]

    def _all_steps(self) -> EpisodeBufferSamples:
        if self._steps is None:
            episodes = self._episodes
            returns_to_go = [np.cumsum(episode.rewards[::-1], dtype=np.float64)[::-1] for episode in episodes]
            parts = (
                [episode.observations for episode in episodes],
                [episode.actions for episode in episodes],
                [episode.rewards for episode in episodes],
                returns_to_go,
                [np.arange(len(episode.rewards), 0, -1) for episode in episodes],
            )
            self._steps = EpisodeBufferSamples(
                *(th.as_tensor(np.concatenate(part), dtype=th.float32, device=self.device) for part in parts)
            )
        return self._steps

    def sample(self, batch_size: int) -> EpisodeBufferSamples:
        """Steps drawn with replacement: an episode uniformly, then one of its steps. Each segment ends with its episode."""
        if not len(self):
            raise ValueError("cannot sample from an empty EpisodeBuffer")
        lengths = self.lengths
        starts = np.cumsum(lengths) - lengths
        episode = self.rng.integers(len(self), size=batch_size)
        step = th.from_numpy(starts[episode] + self.rng.integers(lengths[episode])).to(self.device)
        return EpisodeBufferSamples(*(part[step] for part in self._all_steps()))

    def state_dict(self) -> dict[str, Any]:
        """Contents, the lowest return first, and the random generator's state; tensors and plain values only."""
        episodes = self._episodes

        def join(parts: list[np.ndarray], width: int | None) -> th.Tensor:
            empty = np.zeros((0,) if width is None else (0, width), dtype=np.float32)
            return th.from_numpy(np.concatenate([empty, *parts]))

        return {
            "observations": join([episode.observations for episode in episodes], self.n_obs),
            "actions": join([episode.actions for episode in episodes], self.n_actions),
            "rewards": join([episode.rewards for episode in episodes], None),
            "lengths": th.from_numpy(self.lengths),
            "returns": th.from_numpy(self.stored_returns),
            "rng": json.dumps(self.rng.bit_generator.state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; if it holds more episodes than fit, the best of them.

        :raises ValueError: if a shape does not fit, or something is missing or not finite. The buffer is unchanged then.
        """
        lengths = state["lengths"].tolist()
        returns = check_rows("returns", state["returns"], (len(lengths),), th.float64)
        if any(length < 1 for length in lengths) or bool((returns.diff() < 0).any()):
            raise ValueError("the saved episodes must have steps, and be in the order of their returns")
        n_steps = sum(lengths)
        rows = (
            check_rows("observations", state["observations"], (n_steps, self.n_obs)),
            check_rows("actions", state["actions"], (n_steps, self.n_actions)),
            check_rows("rewards", state["rewards"], (n_steps,)),
        )
        parts = [[part.numpy().copy() for part in th.split(all_steps, lengths)] for all_steps in rows]
        episodes = [
            StoredEpisode(observations, actions, rewards, episode_return)
            for observations, actions, rewards, episode_return in zip(*parts, returns.tolist(), strict=True)
        ]
        self.rng.bit_generator.state = json.loads(state["rng"])  # raises before anything else has changed
        self._episodes = episodes[max(len(episodes) - self.buffer_size, 0) :]
        self._steps = None
