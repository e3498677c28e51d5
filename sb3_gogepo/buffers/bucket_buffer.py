"""BucketBuffer: policies in buckets of similar return; sampling by rank of bucket, however full the buckets are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch as th

from sb3_gogepo.buffers.policy_buffer import PolicyBufferSamples

EMPTY = -1  # in place of the number of a policy


class BucketBuffer:
    """Policies that acted, with the return each achieved, at most ``bucket_size`` of similar return.

    A batch is drawn in two steps: a bucket by its rank, then one of its policies uniformly. So a return that is reached
    a thousand times weighs no more than one that was reached once.

    Memory is claimed from the system only as the buffer fills (``n_weights * 4`` bytes a policy).

    :param buffer_size: policies kept; when all places are taken, the oldest policy goes.
    :param n_buckets: buckets of equal width between the lowest and the highest return.
    :param bucket_size: policies a bucket holds.
    :param rank_scale: the bucket of rank i (1: lowest return) is drawn in proportion to ``exp(rank_scale * i)``; empty
        buckets have no rank. 0 is uniform over buckets.
    :param replace_oldest: a newcomer to a full bucket replaces its oldest policy; otherwise it is turned away.
    :param return_range: (lowest, highest) return. Lower returns count as the lowest; above the highest one, buckets of the
        same width follow. None: the returns seen so far, so the buckets grow wider with them.
    :raises ValueError: for a size below 1, or a negative or non-finite ``rank_scale``.
    """

    def __init__(
        self,
        buffer_size: int,
        n_weights: int,
        n_buckets: int = 800,
        bucket_size: int = 2,
        rank_scale: float = 0.3,
        replace_oldest: bool = True,
        return_range: tuple[float, float] | None = None,
        seed: int | None = None,
        device: th.device | str = "cpu",
    ) -> None:
        sizes = dict(buffer_size=buffer_size, n_weights=n_weights, n_buckets=n_buckets, bucket_size=bucket_size)
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if not (np.isfinite(rank_scale) and rank_scale >= 0):
            raise ValueError(f"rank_scale must be a finite number >= 0, got {rank_scale}")
        self.buffer_size = int(buffer_size)
        self.n_weights = n_weights
        self.n_buckets = n_buckets
        self.bucket_size = bucket_size
        self.rank_scale = rank_scale
        self.replace_oldest = replace_oldest
        self.return_range = None if return_range is None else (float(return_range[0]), float(return_range[1]))
        self.device = th.device(device)
        self.policy_weights = th.empty(self.buffer_size, n_weights)
        self.commands = np.zeros(self.buffer_size)
        self.returns = np.zeros(self.buffer_size)
        #: (buffer_size,) how many policies had been offered before the one at each place; EMPTY: the place is free
        self.numbers = np.full(self.buffer_size, EMPTY, dtype=np.int64)
        self.n_offered = 0
        self.range_seen: tuple[float, float] | None = None
        self.rng = np.random.default_rng(seed)
        self._probabilities: tuple[np.ndarray, np.ndarray] | None = None  # None: the contents have changed

    def seed(self, seed: int) -> None:
        """Start the buffer's random generator anew."""
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return int((self.numbers != EMPTY).sum())

    def _places(self) -> np.ndarray:
        """(n_stored,) places in use, oldest policy first."""
        places = np.flatnonzero(self.numbers != EMPTY)
        return places[np.argsort(self.numbers[places])]

    @property
    def stored_returns(self) -> np.ndarray:
        """(n_stored,) returns, oldest policy first."""
        return self.returns[self._places()]

    def bucket_of(self, returns: np.ndarray) -> np.ndarray:
        """(n,) returns -> (n,) numbers of their buckets."""
        low, high = self.return_range or self.range_seen or (0.0, 0.0)
        if high == low:
            return np.zeros(len(returns), dtype=np.int64)
        buckets = np.floor((returns - low) / (high - low) * self.n_buckets).astype(np.int64)
        if self.return_range is None:
            buckets = np.minimum(buckets, self.n_buckets - 1)  # the highest return seen closes the last bucket
        return np.maximum(buckets, 0)

    def add(self, policy_weights: th.Tensor, command: float, episode_return: float) -> bool:
        """Store one policy, (n_weights,); False if its bucket is full and turns newcomers away.

        :raises ValueError: if the return or a weight is not finite; the buffer is unchanged then.
        """
        if not (np.isfinite(episode_return) and bool(th.isfinite(policy_weights).all())):
            raise ValueError(f"only finite policies and returns can be stored, got a return of {episode_return}")
        if self.return_range is not None:
            episode_return = max(episode_return, self.return_range[0])
        self._probabilities = None
        self._widen(episode_return)
        number, self.n_offered = self.n_offered, self.n_offered + 1
        used = self._places()
        bucket = self.bucket_of(np.array([episode_return]))[0]
        members = used[self.bucket_of(self.returns[used]) == bucket]
        if len(members) >= self.bucket_size:
            if not self.replace_oldest:
                return False
            place = members[0]
        elif len(used) == self.buffer_size:
            place = used[0]
        else:
            place = int(np.flatnonzero(self.numbers == EMPTY)[0])
        self.policy_weights[place] = policy_weights.detach()
        self.commands[place], self.returns[place], self.numbers[place] = command, episode_return, number
        return True

    def _widen(self, episode_return: float) -> None:
        """Let the range seen include a return; in buckets that are wider now, the oldest policies may lose their places."""
        low, high = self.range_seen or (episode_return, episode_return)
        if self.range_seen is not None and low <= episode_return <= high:
            return
        self.range_seen = (min(low, episode_return), max(high, episode_return))
        if self.return_range is not None:
            return  # the buckets stay as they are
        used = self._places()[::-1]  # newest first
        buckets = self.bucket_of(self.returns[used])
        order = np.argsort(buckets, kind="stable")
        rank = np.arange(len(used)) - np.searchsorted(buckets[order], buckets[order])  # in its bucket, 0: newest
        self.numbers[used[order[rank >= self.bucket_size]]] = EMPTY

    def probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        """(n_stored,) places, oldest policy first, and the probability of each to be drawn."""
        if self._probabilities is not None:
            return self._probabilities
        places = self._places()
        _, bucket, count = np.unique(self.bucket_of(self.returns[places]), return_inverse=True, return_counts=True)
        mass = np.exp(self.rank_scale * (np.arange(len(count)) - (len(count) - 1.0)))  # of each bucket, lowest return first
        self._probabilities = places, (mass / count)[bucket] / mass.sum()
        return self._probabilities

    def sample(self, batch_size: int) -> PolicyBufferSamples:
        """``batch_size`` draws with replacement, on ``device``; each policy appears once, with its count."""
        if not len(self):
            raise ValueError("cannot sample from an empty BucketBuffer")
        places, probabilities = self.probabilities()
        chosen, counts = np.unique(self.rng.choice(len(places), size=batch_size, p=probabilities), return_counts=True)
        drawn = places[chosen]
        return PolicyBufferSamples(
            policy_weights=self.policy_weights[th.from_numpy(drawn)].to(self.device),
            commands=th.as_tensor(self.commands[drawn], dtype=th.float32, device=self.device),
            returns=th.as_tensor(self.returns[drawn], dtype=th.float32, device=self.device),
            counts=th.as_tensor(counts, dtype=th.float32, device=self.device),
            elite_counts=th.zeros(len(drawn), device=self.device),  # it knows no elites,
            even_counts=th.zeros(len(drawn), device=self.device),  # and draws evenly anyway
        )

    def state_dict(self) -> dict[str, Any]:
        """Contents, oldest first, and the random generator's state; tensors and plain values only."""
        places = self._places()
        return {
            "policy_weights": self.policy_weights[th.from_numpy(places)],
            "commands": th.from_numpy(self.commands[places]),
            "returns": th.from_numpy(self.returns[places]),
            "numbers": th.from_numpy(self.numbers[places]),
            "n_offered": self.n_offered,
            "range_seen": list(self.range_seen or ()),
            "rng": json.dumps(self.rng.bit_generator.state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; of more policies than fit, the newest.

        :raises ValueError: if the policies have another number of weights, or something is missing or not finite.
        """
        policy_weights, returns, numbers = state["policy_weights"].float(), state["returns"], state["numbers"].numpy()
        if policy_weights.ndim != 2 or policy_weights.shape[1] != self.n_weights:
            raise ValueError(f"the saved policies must have {self.n_weights} weights, got shape {tuple(policy_weights.shape)}")
        if not len(policy_weights) == len(state["commands"]) == len(returns) == len(numbers):
            raise ValueError("the saved policies, commands, returns and numbers must be equally many")
        if not all(bool(th.isfinite(part).all()) for part in (policy_weights, state["commands"], returns)):
            raise ValueError("the saved policies, commands and returns must be finite")
        n_offered, range_seen = int(state["n_offered"]), tuple(float(value) for value in state["range_seen"])
        if len(range_seen) not in (0, 2):
            raise ValueError(f"range_seen must be two returns or none, got {range_seen}")
        if not np.array_equal(numbers, np.unique(numbers[(numbers >= 0) & (numbers < n_offered)])):
            raise ValueError(f"the saved numbers must be ascending, in [0, {n_offered})")
        self.rng.bit_generator.state = json.loads(state["rng"])  # raises before anything else has changed
        kept = min(len(policy_weights), self.buffer_size)
        newest = slice(len(policy_weights) - kept, None)
        self.policy_weights[:kept] = policy_weights[newest]
        self.commands[:kept], self.returns[:kept] = state["commands"][newest].numpy(), returns[newest].numpy()
        self._probabilities = None
        self.numbers[:] = EMPTY
        self.numbers[:kept] = numbers[newest]
        self.n_offered = n_offered
        self.range_seen = (range_seen[0], range_seen[1]) if range_seen else None
