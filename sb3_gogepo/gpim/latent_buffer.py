"""LatentBuffer: SB3's DictReplayBuffer that stores each step's latent and computes rewards when it is sampled."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_gogepo.buffers.saved_rows import check_rows

_ARRAYS = ("actions", "dones", "timeouts", "latents", "sources")


class LatentSamples(NamedTuple):
    """A batch of steps, without what only SAC needs.

    :param next_observations: (batch_size, n_obs) observations after the steps.
    :param latents: (batch_size,) latent of each step.
    :param sources: (batch_size, n_obs) what the skill policy observed where the step's goal comes from.
    """

    next_observations: th.Tensor
    latents: th.Tensor
    sources: th.Tensor


#: samples -> (batch_size,) rewards
RewardFunction = Callable[[LatentSamples], th.Tensor]


class LatentBuffer(DictReplayBuffer):
    """The last ``buffer_size`` steps. A reward is that of the present discriminator, not of the one at the time.

    :param buffer_size: number of steps kept.
    :param observation_space: of the policy whose steps are stored.
    :param action_space: of the env; actions are stored scaled to [-1, 1].
    :param reward_function: computes the (batch_size,) rewards of the steps that were sampled.
    :param device: where samples are put.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        reward_function: RewardFunction,
        device: th.device | str = "auto",
    ) -> None:
        super().__init__(buffer_size, observation_space, action_space, device=device)
        self.reward_function = reward_function
        self.latents = np.zeros(self.buffer_size, dtype=np.int64)
        self.sources = np.zeros_like(self.observations["observation"][:, 0])
        self.rng = np.random.default_rng()

    def seed(self, seed: int) -> None:
        """Start the buffer's random generator anew."""
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.size()

    def add_episode(
        self,
        observations: dict[str, np.ndarray],
        actions: np.ndarray,
        latents: np.ndarray,
        terminated: bool,
        sources: np.ndarray | None = None,
    ) -> None:
        """Store the steps of one episode.

        :param observations: for each key (length + 1, ...) observations; the last one is that with which the episode ended.
        :param actions: (length, n_actions) actions, scaled to [-1, 1].
        :param latents: (length,) latent of each step.
        :param terminated: False if a time limit ended the episode: then the last step is bootstrapped, as in SB3.
        :param sources: (length, n_obs) what the skill policy observed where the goal of each step comes from; None: the
            next observations.
        """
        length = len(actions)
        sources = observations["observation"][1:] if sources is None else sources
        for t in range(length):
            self.latents[self.pos], self.sources[self.pos] = latents[t], sources[t]
            is_last = t == length - 1
            self.add(
                {key: values[t][None] for key, values in observations.items()},
                {key: values[t + 1][None] for key, values in observations.items()},
                actions[t][None],
                np.zeros(1),
                np.array([is_last]),
                [{"TimeLimit.truncated": is_last and not terminated}],
            )

    def _draw(self, batch_size: int) -> np.ndarray:
        if not len(self):
            raise ValueError("cannot sample from an empty LatentBuffer")
        return self.rng.integers(len(self), size=batch_size)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> DictReplayBufferSamples:  # type: ignore[override]
        """Steps drawn uniformly with replacement, rewarded by ``reward_function``: (batch_size, 1)."""
        indices = self._draw(batch_size)
        samples = self._get_samples(indices, env=env)
        with th.no_grad():
            rewards = self.reward_function(self._latent_samples(indices))
        return samples._replace(rewards=rewards.reshape(-1, 1))

    def sample_latents(self, batch_size: int) -> LatentSamples:
        """Steps drawn uniformly with replacement, from which the discriminator learns."""
        return self._latent_samples(self._draw(batch_size))

    def _latent_samples(self, indices: np.ndarray) -> LatentSamples:
        return LatentSamples(
            next_observations=self.to_torch(self.next_observations["observation"][indices, 0]),
            latents=self.to_torch(self.latents[indices]),
            sources=self.to_torch(self.sources[indices]),
        )

    def state_dict(self) -> dict[str, Any]:
        """Contents, position and the random generator's state; tensors and plain values only."""
        n = len(self)
        state: dict[str, Any] = {name: th.from_numpy(getattr(self, name)[:n].copy()) for name in _ARRAYS}
        for name in ("observations", "next_observations"):
            state[name] = {key: th.from_numpy(values[:n].copy()) for key, values in getattr(self, name).items()}
        return {**state, "pos": self.pos, "full": self.full, "rng": json.dumps(self.rng.bit_generator.state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        :raises ValueError: if a shape does not fit, or something is not finite. The buffer is unchanged then.
        """
        n, pos, full = len(state["latents"]), int(state["pos"]), bool(state["full"])
        if n > self.buffer_size or (full and n != self.buffer_size) or pos != (n if not full else pos % n):
            raise ValueError(f"{n} saved steps, at position {pos}, do not fit a buffer of {self.buffer_size}")
        pairs = [(getattr(self, name), state[name], name) for name in _ARRAYS]
        for name in ("observations", "next_observations"):
            if state[name].keys() != getattr(self, name).keys():
                raise ValueError(f"the saved {name} must have the keys {list(getattr(self, name))}, got {list(state[name])}")
            pairs += [(values, state[name][key], f"{name}['{key}']") for key, values in getattr(self, name).items()]
        rows = [check_rows(name, saved, (n, *own.shape[1:]), th.from_numpy(own).dtype) for own, saved, name in pairs]
        self.rng.bit_generator.state = json.loads(state["rng"])  # raises before anything else has changed
        for (own, _, _), values in zip(pairs, rows, strict=True):
            own[:n] = values.numpy()
        self.pos, self.full = pos, full
