"""PolicyBuffer: a ring of (policy weights, command, return), with recency sampling and its own random generator."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_gogepo.buffers.luck import Luck
from sb3_gogepo.buffers.saved_rows import check_rows
from sb3_gogepo.buffers.transition_buffer import TransitionBuffer
from sb3_gogepo.checks import check_number
from sb3_gogepo.rollouts.pruning import BestEpisodes

#: How policies come about that act: G(best) with exploration noise, G(any command) without, a state critic's, or as stored
BEST, PROBE, ACTOR, REFINED, RERUN = range(5)
KIND_NAMES = ("best", "probe", "actor", "refined", "rerun")
#: Bins of return among which policies are drawn evenly
N_BINS = 20
#: They begin at this quantile of the returns: few policies are worse
LOWEST_QUANTILE = 0.02
#: For each so many policies since the best, one of the best is taken for luck, up to as many as this
PATIENCE, MAX_LUCKY = 20, 9


class PolicyBufferSamples(NamedTuple):
    """A batch of different policies, each with the number of times it was drawn.

    :param policy_weights: (n_policies, n_weights)
    :param commands: (n_policies,) on which the policies acted, in return units.
    :param returns: (n_policies,) that the policies achieved, in return units; the mean, if they were run again.
    :param expected_returns: (n_policies,) that can be expected of them.
    :param counts: (n_policies,) how often each policy was drawn. They add up to the batch size.
    :param elite_counts: (n_policies,) how many of the draws of each policy went by rank of return.
    :param even_counts: (n_policies,) how many of them were spread evenly over returns.
    :param critic_counts: (n_policies,) the elite counts of policies that a state critic made, else 0.
    """

    policy_weights: th.Tensor
    commands: th.Tensor
    returns: th.Tensor
    expected_returns: th.Tensor
    counts: th.Tensor
    elite_counts: th.Tensor
    even_counts: th.Tensor
    critic_counts: th.Tensor


class SavedPolicies(NamedTuple):
    """What a file holds of n policies: policy_weights (n, n_weights), commands (n,) and returns (n,), oldest first."""

    policy_weights: th.Tensor
    commands: np.ndarray
    returns: np.ndarray


def read_policies(state: dict[str, Any], n_weights: int) -> SavedPolicies:
    """The policies in a buffer's ``state_dict``.

    :raises ValueError: if they have another number of weights, or something is missing or not finite.
    """
    n = len(state["policy_weights"])
    return SavedPolicies(
        policy_weights=check_rows("policy_weights", state["policy_weights"], (n, n_weights)),
        commands=check_rows("commands", state["commands"], (n,), th.float64).numpy(),
        returns=check_rows("returns", state["returns"], (n,), th.float64).numpy(),
    )


def check_policy(policy_weights: th.Tensor, episode_return: float) -> None:
    """Raise unless a policy and its return may be stored: all numbers must be finite."""
    if not (np.isfinite(episode_return) and bool(th.isfinite(policy_weights).all())):
        raise ValueError(f"only finite policies and returns can be stored, got a return of {episode_return}")


class PolicyBuffer:
    """The last ``buffer_size`` policies that acted, with the return each achieved.

    Memory is claimed only as the buffer fills (``n_weights * 4`` bytes a policy).

    :param buffer_size: number of policies kept.
    :param n_weights: number of weights of a policy.
    :param recency: the policy of rank i (1: newest) is sampled in proportion to ``1 / i**recency``; 0 is uniform.
    :param elite_fraction: share of each batch that is ranked by return (1: best) instead of by age, so that a rare
        success is not forgotten.
    :param seed: of the buffer's random generator; None: it is seeded by the system.
    :param device: where samples are put; the policies themselves stay in CPU memory.
    :param even_fraction: share of each batch that is drawn evenly over the range of returns: one of 20 equal bins, then of
        the bin's policies that probed, or if there are none, of those that a state critic made, one by recency. Bins without
        either are skipped. At most what the elites leave.
    :param transitions: the steps of the episodes, seeded and saved with the policies; None: they are not kept.
    :raises ValueError: if ``buffer_size`` or ``n_weights`` is no integer >= 1, or ``recency`` is negative or not finite.
    """

    def __init__(
        self,
        buffer_size: int,
        n_weights: int,
        recency: float = 1.1,
        elite_fraction: float = 0.0,
        even_fraction: float = 0.0,
        seed: int | None = None,
        device: th.device | str = "cpu",
        transitions: TransitionBuffer | None = None,
    ) -> None:
        check_number("buffer_size", buffer_size, minimum=1, integer=True)
        check_number("n_weights", n_weights, minimum=1, integer=True)
        check_number("recency", recency, minimum=0)
        self.buffer_size = buffer_size
        self.n_weights = n_weights
        self.recency = recency
        self.elite_fraction = elite_fraction
        self.even_fraction = even_fraction
        self.device = th.device(device)
        self.policy_weights: list[th.Tensor] = []  # one (n_weights,) tensor a policy: grows without being copied
        self.commands = np.zeros(self.buffer_size)
        self.returns = np.zeros(self.buffer_size)
        self.kinds = np.zeros(self.buffer_size, dtype=np.int8)
        self.n_runs = np.ones(self.buffer_size)
        self.deviations = np.zeros(self.buffer_size)  # sum of the squared distances of a policy's returns from their mean
        self.n_added = 0
        self.best_episodes = BestEpisodes()
        self._ages_by_return: np.ndarray | None = None  # ages, best return first; sorted anew after each change
        self._bins: list[np.ndarray] | None = None  # ages of those drawn evenly, newest first, by their return
        self._judged: tuple[Luck | None, np.ndarray] | None = None
        self.rng = np.random.default_rng(seed)
        self.transitions = transitions
        # cumulative_mass[n - 1]: unnormalized probability of ranks 1..n
        self._cumulative_mass = np.cumsum(np.arange(1, self.buffer_size + 1, dtype=np.float64) ** -recency)

    def seed(self, seed: int) -> None:
        """Start the buffer's random generator anew."""
        self.rng = np.random.default_rng(seed)
        if self.transitions is not None:
            self.transitions.seed(seed)

    def __len__(self) -> int:
        return min(self.n_added, self.buffer_size)

    @property
    def stored_returns(self) -> np.ndarray:
        """(n_stored,) returns, oldest first."""
        return self._oldest_first(self.returns)

    @property
    def stored_kinds(self) -> np.ndarray:
        """(n_stored,) how each policy came about, oldest first."""
        return self._oldest_first(self.kinds)

    def _oldest_first(self, ring: np.ndarray) -> np.ndarray:
        """(buffer_size,) -> (n_stored,)"""
        return np.roll(ring[: len(self)], -self.n_added if self.n_added > self.buffer_size else 0)

    def add(self, policy_weights: th.Tensor, command: float, episode_return: float, kind: int = BEST) -> None:
        """Store one policy, (n_weights,), replacing the oldest when full.

        :param kind: ``BEST``, ``PROBE``, ``ACTOR`` or ``REFINED``.
        :raises ValueError: if the return or a weight is not finite; the buffer is unchanged then.
        """
        check_policy(policy_weights, episode_return)
        index = self.n_added % self.buffer_size
        self.policy_weights[index : index + 1] = [policy_weights.detach().to("cpu", copy=True)]
        self.commands[index] = command
        self.returns[index] = episode_return
        self.kinds[index] = kind
        self.n_runs[index], self.deviations[index] = 1, 0.0
        self.n_added += 1
        self._forget()

    def _forget(self) -> None:
        """What followed from the contents."""
        self._ages_by_return = self._bins = self._judged = None

    def add_run(self, serial: int, episode_return: float) -> None:
        """See another episode of the policy that was the ``serial``-th to be added, from 0; of one that is gone, nothing."""
        if serial < self.n_added - len(self):
            return
        index = serial % self.buffer_size
        self.n_runs[index] += 1
        distance = episode_return - self.returns[index]
        self.returns[index] += distance / self.n_runs[index]
        self.deviations[index] += distance * (episode_return - self.returns[index])
        self._forget()

    def measured_luck(self) -> Luck | None:
        """How much of a return is luck; None: too few policies were run again."""
        return self._judge()[0]

    @property
    def expected_returns(self) -> np.ndarray:
        """(n_stored,) what can be expected of the policies, oldest first: their returns, less what was luck."""
        return self._judge()[1]

    def _judge(self) -> tuple[Luck | None, np.ndarray]:
        """The luck, and what can be expected of the policies; worked out anew after each change."""
        if self._judged is None:
            returns, n_runs = self.stored_returns, self._oldest_first(self.n_runs)
            luck = Luck.measured(returns, n_runs, self._oldest_first(self.deviations))
            self._judged = luck, returns if luck is None else luck.expected(returns, n_runs)
        return self._judged

    def best_policies(self, n: int) -> tuple[np.ndarray, th.Tensor, np.ndarray]:
        """The n policies of which most can be expected, best first: serial numbers, (n, n_weights), and expected returns."""
        places = np.argsort(-self.expected_returns, kind="stable")[:n]
        serials = self.n_added - len(self) + places
        policy_weights = th.stack([self.policy_weights[serial % self.buffer_size] for serial in serials])
        return serials, policy_weights, self.expected_returns[places]

    @property
    def best_but_for_luck(self) -> float:
        """What is expected of the best policy while it is new, of the tenth best when there has been no better one for long.

        A record that stands was one lucky episode, and while returns rise, there is always a new one.
        """
        ages = self._ages_best_first()
        return float(self.expected_returns[::-1][ages[min(int(ages[0]) // PATIENCE, MAX_LUCKY)]])

    def probabilities(self) -> np.ndarray:
        """(n_stored,) probability of each rank, in the order of the ranks."""
        ranks = np.arange(1, len(self) + 1, dtype=np.float64)
        return ranks**-self.recency / self._cumulative_mass[len(self) - 1]

    def sample_ages(self, batch_size: int) -> np.ndarray:
        """(batch_size,) ages, 0 = newest, drawn with replacement; the elites come first, those drawn evenly last."""
        if not len(self):
            raise ValueError("cannot sample from an empty PolicyBuffer")
        mass = self._cumulative_mass[: len(self)]
        ranks = np.searchsorted(mass, self.rng.random(batch_size) * mass[-1], side="right")
        n_elites = self._n_elites(batch_size)
        if n_elites:
            ranks[:n_elites] = self._ages_best_first()[ranks[:n_elites]]
        n_even = self._n_even(batch_size)
        if n_even:
            ranks[batch_size - n_even :] = [self._sample_evenly() for _ in range(n_even)]
        return ranks

    def _ages_best_first(self) -> np.ndarray:
        """(n_stored,) ages by what is expected of the policies, of equal ones the newest first."""
        if self._ages_by_return is None:
            self._ages_by_return = np.argsort(-self.expected_returns[::-1], kind="stable")
        return self._ages_by_return

    def _sample_evenly(self) -> int:
        """The age of one policy of :meth:`_even_bins`."""
        bins = self._even_bins()
        chosen = bins[self.rng.integers(len(bins))]
        mass = self._cumulative_mass[: len(chosen)]
        return int(chosen[np.searchsorted(mass, self.rng.random() * mass[-1], side="right")])

    def _even_bins(self) -> list[np.ndarray]:
        """Ages, newest first, in bins of return: those of the policies that probed, where none did of a state critic's."""
        if self._bins is None:
            returns = self.expected_returns[::-1]
            kinds = self.kinds[self._indices(np.arange(len(self)))]
            ages = np.flatnonzero(kinds != BEST)
            low, high = np.quantile(returns, LOWEST_QUANTILE), returns.max()
            ages = ages[returns[ages] >= low]
            places = (returns[ages] - low) / (high - low) if high > low else np.zeros(len(ages))
            numbers = np.minimum((places * N_BINS).astype(int), N_BINS - 1)
            bins = [ages[numbers == number] for number in np.unique(numbers)]
            probed = [ages[kinds[ages] == PROBE] for ages in bins]
            self._bins = [some if len(some) else ages for some, ages in zip(probed, bins, strict=True)]
        return self._bins

    def _n_even(self, batch_size: int) -> int:
        """Draws of a batch that are spread evenly; none as long as there is nobody."""
        if not self.even_fraction or not self._even_bins():
            return 0
        return min(round(self.even_fraction * batch_size), batch_size - self._n_elites(batch_size))

    def _n_elites(self, batch_size: int) -> int:
        return round(self.elite_fraction * batch_size)

    def _indices(self, ages: np.ndarray) -> np.ndarray:
        return (self.n_added - 1 - ages) % self.buffer_size

    def sample(self, batch_size: int) -> PolicyBufferSamples:
        """``batch_size`` draws with replacement, on ``device``; each policy appears once, with its count."""
        ages, draws, counts = np.unique(self.sample_ages(batch_size), return_inverse=True, return_counts=True)
        indices, n_even = self._indices(ages), self._n_even(batch_size)
        elite_counts = np.bincount(draws[: self._n_elites(batch_size)], minlength=len(ages))
        even_counts = np.bincount(draws[batch_size - n_even :], minlength=len(ages))
        return PolicyBufferSamples(
            policy_weights=th.stack([self.policy_weights[i] for i in indices]).to(self.device),
            commands=self._to_tensor(self.commands[indices]),
            returns=self._to_tensor(self.returns[indices]),
            expected_returns=self._to_tensor(self.expected_returns[::-1][ages]),
            counts=self._to_tensor(counts),
            elite_counts=self._to_tensor(elite_counts),
            even_counts=self._to_tensor(even_counts),
            critic_counts=self._to_tensor(elite_counts * np.isin(self.kinds[indices], (ACTOR, REFINED))),
        )

    def _to_tensor(self, values: np.ndarray) -> th.Tensor:
        return th.as_tensor(values, dtype=th.float32, device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """Contents, oldest first, and the random generator's state; tensors and plain values only."""
        order = self._indices(np.arange(len(self))[::-1])
        return {
            "policy_weights": th.stack([self.policy_weights[i] for i in order]) if len(self) else th.empty(0, self.n_weights),
            "commands": th.from_numpy(self.commands[order]),
            "returns": th.from_numpy(self.returns[order]),
            "kinds": th.from_numpy(self.kinds[order]),
            "n_runs": th.from_numpy(self.n_runs[order]),
            "deviations": th.from_numpy(self.deviations[order]),
            "rng": json.dumps(self.rng.bit_generator.state),
            **self.best_episodes.state_dict(),
            **({} if self.transitions is None else self.transitions.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; if it holds more policies than fit, the newest of them.

        :raises ValueError: if the policies have another number of weights, or something is missing or not finite. The
            buffer is unchanged then.
        """
        policies = read_policies(state, self.n_weights)
        n_kept = min(len(policies.returns), self.buffer_size)
        n = len(policies.returns)
        older = state.get("is_probe", th.zeros(n))  # as older files say it, if at all
        kinds = check_rows("kinds", state.get("kinds", older), (n,)).numpy()
        if not np.isin(kinds, range(len(KIND_NAMES))).all():
            raise ValueError(f"the saved kinds must be 0 to {len(KIND_NAMES) - 1}")
        n_runs, deviations = (
            check_rows(name, state.get(name, th.full((n,), otherwise, dtype=th.float64)), (n,), th.float64).numpy()
            for name, otherwise in (("n_runs", 1.0), ("deviations", 0.0))  # older files lack them
        )
        if not ((n_runs >= 1) & (deviations >= 0)).all():
            raise ValueError("the saved n_runs must be at least 1, and deviations at least 0")
        best_episodes = BestEpisodes()
        if "return_curves" in state:  # older files lack them
            best_episodes.load_state_dict(state)
        rng_state = json.loads(state["rng"])
        np.random.default_rng(0).bit_generator.state = rng_state  # raises before anything has changed
        if self.transitions is not None:
            self.transitions.load_state_dict(state)
        self.rng.bit_generator.state = rng_state
        newest = slice(len(policies.returns) - n_kept, None)
        # each row a tensor of its own: a view would keep all rows alive
        self.policy_weights = [row.clone() for row in policies.policy_weights[newest]]
        self.commands[:n_kept], self.returns[:n_kept] = policies.commands[newest], policies.returns[newest]
        self.kinds[:n_kept] = kinds[newest]
        self.n_runs[:n_kept], self.deviations[:n_kept] = n_runs[newest], deviations[newest]
        self.n_added = n_kept
        self.best_episodes = best_episodes
        self._forget()
