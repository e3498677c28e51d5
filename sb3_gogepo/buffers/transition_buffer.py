"""TransitionBuffer: SB3's ReplayBuffer, filled by whole episodes, with its own random generator, saved without pickles."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import Space
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_gogepo.buffers.saved_rows import check_rows


class Transitions(NamedTuple):
    """(n_batches, batch_size, ...) steps: raw observations, actions in [-1, 1], rewards, and whether the last one ended
    in a terminal state; one more axis of size 1 for the last two."""

    observations: th.Tensor
    actions: th.Tensor
    next_observations: th.Tensor
    rewards: th.Tensor
    dones: th.Tensor


class TransitionBuffer(ReplayBuffer):
    """The last ``buffer_size`` steps of all episodes; memory is claimed only as it fills.

    An episode that a time limit or pruning has ended goes on in the eyes of whoever learns from its last step.

    :param buffer_size: steps kept.
    :param spaces: of observations, a flat Box, and of actions, a Box; actions are stored in [-1, 1].
    :param seed: of its random generator; None: it is seeded by the system.
    :param device: where samples are put; the steps themselves stay in CPU memory.
    """

    def __init__(
        self,
        buffer_size: int,
        spaces: tuple[Space, Space],
        seed: int | None = None,
        device: th.device | str = "cpu",
    ) -> None:
        super().__init__(buffer_size, *spaces, device=device, handle_timeout_termination=False)
        self.n_added = 0
        self.seed(seed)

    def seed(self, seed: int | None) -> None:
        """Start the random generator anew. It draws other numbers than a policy buffer of the same seed."""
        self.rng = np.random.default_rng(None if seed is None else [seed, 1])

    def add_episode(
        self,
        observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        last_observation: np.ndarray,
        terminated: bool,
    ) -> None:
        """Append an episode of ``length`` steps; of one longer than the buffer, the last steps.

        :param observations: (length, n_obs) that the policy acted on.
        :param actions: (length, n_actions) in [-1, 1].
        :param rewards: (length,)
        :param last_observation: (n_obs,) after the last step.
        :param terminated: was that a terminal state?
        """
        dones = np.zeros(len(rewards), dtype=np.float32)
        dones[-1] = terminated
        following = np.concatenate([observations[1:], last_observation[None]])
        self._write(observations, actions, following, rewards, dones)

    def _write(self, *columns: np.ndarray) -> None:
        """Append rows to :meth:`_columns`, over the oldest when full."""
        self.n_added += len(columns[0])
        n = min(len(columns[0]), self.buffer_size)
        where = np.arange(self.n_added - n, self.n_added) % self.buffer_size
        for stored, column in zip(self._columns(), columns, strict=True):
            stored[where] = column[-n:].reshape(n, *stored.shape[1:])
        self.full, self.pos = self.n_added >= self.buffer_size, self.n_added % self.buffer_size

    def _columns(self) -> list[np.ndarray]:
        """The stored observations, actions, next observations, rewards and dones, (buffer_size, 1, ...) each."""
        return [self.observations, self.actions, self.next_observations, self.rewards, self.dones]

    def sample_batches(self, n_batches: int, batch_size: int) -> Transitions:
        """``n_batches`` batches, drawn uniformly with replacement, on ``device``."""
        indices = self.rng.integers(self.size(), size=(n_batches, batch_size))
        return Transitions(*(self.to_torch(self._rows(column)[indices], copy=False) for column in self._columns()))

    def latest_observations(self, n: int) -> th.Tensor:
        """(at most n, n_obs) the observations of the last steps, on ``device``."""
        indices = (self.pos - 1 - np.arange(min(n, self.size()))) % self.buffer_size
        return self.to_torch(self._rows(self.observations)[indices], copy=False)

    @staticmethod
    def _rows(column: np.ndarray) -> np.ndarray:
        """Without SB3's axis of envs; numbers of an env become rows of one."""
        return column.reshape(len(column), -1)

    def state_dict(self) -> dict[str, Any]:
        """Contents, position and the random generator's state; tensors and plain values only."""
        names = (f"transitions.{name}" for name in Transitions._fields)
        n = self.size()
        rows = {name: th.from_numpy(self._rows(part)[:n].copy()) for name, part in zip(names, self._columns(), strict=True)}
        return {**rows, "transitions.n_added": self.n_added, "transitions.rng": json.dumps(self.rng.bit_generator.state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        :raises ValueError: if a shape does not fit, or something is missing or not finite. The buffer is unchanged then.
        """
        n, n_added = len(state["transitions.rewards"]), int(state["transitions.n_added"])
        if n != min(n_added, self.buffer_size):
            raise ValueError(f"{n} saved steps of {n_added} do not fit a buffer of {self.buffer_size}")
        rows = []
        for name, column in zip(Transitions._fields, self._columns(), strict=True):
            shape, dtype = (n, self._rows(column[:1]).shape[1]), th.from_numpy(column).dtype
            rows.append(check_rows(name, state[f"transitions.{name}"], shape, dtype).numpy())
        self.rng.bit_generator.state = json.loads(state["transitions.rng"])  # raises before anything else has changed
        for column, saved in zip(self._columns(), rows, strict=True):
            self._rows(column)[:n] = saved
        self.n_added, self.full, self.pos = n_added, n == self.buffer_size, n_added % self.buffer_size
