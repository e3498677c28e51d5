"""BucketBuffer: policies in buckets of similar return; sampling by rank of bucket, however full the buckets are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch as th

from sb3_gogepo.buffers.policy_buffer import PolicyBufferSamples, check_policy, read_policies
from sb3_gogepo.buffers.saved_rows import check_rows
from sb3_gogepo.checks import check_number

EMPTY = -1  # in place of the serial number of a policy


class BucketBuffer:
    """Policies that acted, with the return each achieved, at most ``bucket_size`` of similar return.

    Each draw takes two steps: a bucket by its rank, then one of its policies uniformly. So a return that was achieved a
    thousand times weighs no more than one that was achieved once.

    Memory is claimed from the system only as the buffer fills (``n_weights * 4`` bytes a policy).

    :param buffer_size: number of policies kept; when the buffer is full, a new policy replaces the oldest.
    :param n_weights: number of weights of a policy.
    :param n_buckets: number of buckets, all of equal width, between the lowest and the highest return.
    :param bucket_size: number of policies that a bucket holds.
    :param rank_scale: the bucket of rank i (1: lowest return) is drawn in proportion to ``exp(rank_scale * i)``; empty
        buckets have no rank. 0 is uniform over buckets.
    :param replace_oldest: True: a new policy replaces the oldest one of a full bucket; False: it is not stored.
    :param return_range: (lowest, highest) return that the buckets cover. Lower returns count as the lowest; above the
        highest one, more buckets of the same width follow. None: the range of the returns seen so far, so the buckets
        grow wider with it.
    :param seed: of the buffer's random generator; None: it is seeded by the system.
    :param device: where samples are put; the policies themselves stay in CPU memory.
    :raises ValueError: if a size is no integer >= 1, or ``rank_scale`` is negative or not finite.
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
            check_number(name, size, minimum=1, integer=True)
        check_number("rank_scale", rank_scale, minimum=0)
        self.buffer_size = buffer_size
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
        #: (buffer_size,) serial number of the policy in each slot, by the order in which all were offered; EMPTY: none
        self.serials = np.full(self.buffer_size, EMPTY, dtype=np.int64)
        self.n_offered = 0
        self.range_seen: tuple[float, float] | None = None
        self.rng = np.random.default_rng(seed)
        self._probabilities: tuple[np.ndarray, np.ndarray] | None = None  # None: the contents have changed

    def seed(self, seed: int) -> None:
        """Start the buffer's random generator anew."""
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return int((self.serials != EMPTY).sum())

    def _used_slots(self) -> np.ndarray:
        """(n_stored,) slots that hold a policy, the oldest policy first."""
        slots = np.flatnonzero(self.serials != EMPTY)
        return slots[np.argsort(self.serials[slots])]

    @property
    def stored_returns(self) -> np.ndarray:
        """(n_stored,) returns, oldest policy first."""
        return self.returns[self._used_slots()]

    def bucket_of(self, returns: np.ndarray) -> np.ndarray:
        """(n,) returns -> (n,) indices of their buckets."""
        low, high = self.return_range or self.range_seen or (0.0, 0.0)
        if high == low:
            return np.zeros(len(returns), dtype=np.int64)
        buckets = np.floor((returns - low) / (high - low) * self.n_buckets).astype(np.int64)
        if self.return_range is None:
            buckets = np.minimum(buckets, self.n_buckets - 1)  # the highest return seen closes the last bucket
        return np.maximum(buckets, 0)

    def add(self, policy_weights: th.Tensor, command: float, episode_return: float) -> bool:
        """Store one policy, (n_weights,); False if it was not stored because its bucket is full.

        :raises ValueError: if the return or a weight is not finite; the buffer is unchanged then.
        """
        check_policy(policy_weights, episode_return)
        if self.return_range is not None:
            episode_return = max(episode_return, self.return_range[0])
        self._probabilities = None
        self._widen(episode_return)
        serial, self.n_offered = self.n_offered, self.n_offered + 1
        used = self._used_slots()
        bucket = self.bucket_of(np.array([episode_return]))[0]
        members = used[self.bucket_of(self.returns[used]) == bucket]
        if len(members) >= self.bucket_size:
            if not self.replace_oldest:
                return False
            slot = members[0]
        elif len(used) == self.buffer_size:
            slot = used[0]
        else:
            slot = int(np.flatnonzero(self.serials == EMPTY)[0])
        self.policy_weights[slot] = policy_weights.detach()
        self.commands[slot], self.returns[slot], self.serials[slot] = command, episode_return, serial
        return True

    def _widen(self, episode_return: float) -> None:
        """Extend the range seen to a return. Without ``return_range``, buckets grow wider and may drop old policies."""
        low, high = self.range_seen or (episode_return, episode_return)
        if self.range_seen is not None and low <= episode_return <= high:
            return
        self.range_seen = (min(low, episode_return), max(high, episode_return))
        if self.return_range is not None:
            return  # the buckets stay as they are
        used = self._used_slots()[::-1]  # newest first
        buckets = self.bucket_of(self.returns[used])
        order = np.argsort(buckets, kind="stable")
        rank = np.arange(len(used)) - np.searchsorted(buckets[order], buckets[order])  # in its bucket, 0: newest
        self.serials[used[order[rank >= self.bucket_size]]] = EMPTY

    def probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        """(n_stored,) slots, oldest policy first, and the probability of each to be drawn."""
        if self._probabilities is not None:
            return self._probabilities
        slots = self._used_slots()
        _, bucket, count = np.unique(self.bucket_of(self.returns[slots]), return_inverse=True, return_counts=True)
        mass = np.exp(self.rank_scale * (np.arange(len(count)) - (len(count) - 1.0)))  # of each bucket, lowest return first
        self._probabilities = slots, (mass / count)[bucket] / mass.sum()
        return self._probabilities

    def sample(self, batch_size: int) -> PolicyBufferSamples:
        """``batch_size`` draws with replacement, on ``device``; each policy appears once, with its count."""
        if not len(self):
            raise ValueError("cannot sample from an empty BucketBuffer")
        slots, probabilities = self.probabilities()
        chosen, counts = np.unique(self.rng.choice(len(slots), size=batch_size, p=probabilities), return_counts=True)
        drawn = slots[chosen]
        return PolicyBufferSamples(
            policy_weights=self.policy_weights[th.from_numpy(drawn)].to(self.device),
            commands=th.as_tensor(self.commands[drawn], dtype=th.float32, device=self.device),
            returns=th.as_tensor(self.returns[drawn], dtype=th.float32, device=self.device),
            expected_returns=th.as_tensor(self.returns[drawn], dtype=th.float32, device=self.device),
            counts=th.as_tensor(counts, dtype=th.float32, device=self.device),
            elite_counts=th.zeros(len(drawn), device=self.device),  # there are no elites here
            even_counts=th.zeros(len(drawn), device=self.device),  # all draws are even
            critic_counts=th.zeros(len(drawn), device=self.device),
        )

    def state_dict(self) -> dict[str, Any]:
        """Contents, oldest first, and the random generator's state; tensors and plain values only."""
        slots = self._used_slots()
        return {
            "policy_weights": self.policy_weights[th.from_numpy(slots)],
            "commands": th.from_numpy(self.commands[slots]),
            "returns": th.from_numpy(self.returns[slots]),
            "numbers": th.from_numpy(self.serials[slots]),
            "n_offered": self.n_offered,
            "range_seen": list(self.range_seen or ()),
            "rng": json.dumps(self.rng.bit_generator.state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; if it holds more policies than fit, the newest of them.

        :raises ValueError: if the policies have another number of weights, or something is missing or not finite. The
            buffer is unchanged then.
        """
        policies = read_policies(state, self.n_weights)
        n_saved = len(policies.returns)
        serials = check_rows("numbers", state["numbers"], (n_saved,), th.int64).numpy()
        n_offered, range_seen = int(state["n_offered"]), tuple(float(value) for value in state["range_seen"])
        if len(range_seen) not in (0, 2):
            raise ValueError(f"range_seen must be two returns or none, got {range_seen}")
        if not np.array_equal(serials, np.unique(serials[(serials >= 0) & (serials < n_offered)])):
            raise ValueError(f"the saved numbers must be ascending, in [0, {n_offered})")
        self.rng.bit_generator.state = json.loads(state["rng"])  # raises before anything else has changed
        n_kept = min(n_saved, self.buffer_size)
        newest = slice(n_saved - n_kept, None)
        self.policy_weights[:n_kept] = policies.policy_weights[newest]
        self.commands[:n_kept], self.returns[:n_kept] = policies.commands[newest], policies.returns[newest]
        self._probabilities = None
        self.serials[:] = EMPTY
        self.serials[:n_kept] = serials[newest]
        self.n_offered = n_offered
        self.range_seen = (range_seen[0], range_seen[1]) if range_seen else None
