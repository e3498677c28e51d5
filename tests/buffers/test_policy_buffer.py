import io

import numpy as np
import pytest
import torch as th

from sb3_gogepo.buffers.policy_buffer import ACTOR, BEST, PROBE, REFINED, PolicyBuffer


def fill(buffer, n, start=0):
    """Policy i has weights (i, i), command i and return 10 * i."""
    for i in range(start, start + n):
        buffer.add(th.full((2,), float(i)), command=float(i), episode_return=10.0 * i)
    return buffer


def ids_newest_first(buffer):
    weights, commands, returns = (buffer.state_dict()[key] for key in ("policy_weights", "commands", "returns"))
    assert th.equal(weights[:, 0].double(), commands)
    assert th.equal(returns, 10 * commands)
    return commands.int().tolist()[::-1]


@pytest.mark.parametrize(
    ("n_added", "expected"), [(0, []), (1, [0]), (3, [2, 1, 0]), (4, [3, 2, 1, 0]), (6, [5, 4, 3, 2]), (9, [8, 7, 6, 5])]
)
def test_ring_keeps_the_newest(n_added, expected):
    buffer = fill(PolicyBuffer(buffer_size=4, n_weights=2), n_added)
    assert len(buffer) == len(expected)
    assert ids_newest_first(buffer) == expected
    assert sorted(buffer.stored_returns) == sorted(10.0 * i for i in expected)


@pytest.mark.parametrize("recency", [0.0, 1.1, 3.0])
@pytest.mark.parametrize("n_added", [1, 5, 23])
def test_probabilities_equal_the_formula(recency, n_added):
    buffer = fill(PolicyBuffer(buffer_size=10, n_weights=2, recency=recency), n_added)
    unnormalized = np.array([1 / rank**recency for rank in range(1, min(n_added, 10) + 1)])
    np.testing.assert_allclose(buffer.probabilities(), unnormalized / unnormalized.sum())


def test_recency_mass_of_the_paper():
    """Share of the newest 1, 10 and 100 of 1000 policies."""
    buffer = fill(PolicyBuffer(buffer_size=1000, n_weights=2), 1000)
    mass = buffer.probabilities().cumsum()
    np.testing.assert_allclose(mass[[0, 9, 99]], [0.18, 0.48, 0.77], atol=0.005)


@pytest.mark.parametrize("recency", [0.0, 1.1])
def test_sampling_frequencies(recency):
    """Chi-square against the probabilities; the ring has wrapped, so ranks are not positions."""
    n_draws = 20_000
    buffer = fill(PolicyBuffer(buffer_size=5, n_weights=2, recency=recency, seed=0), 8)
    samples = buffer.sample(n_draws)
    ids = samples.commands.numpy()
    assert np.array_equal(samples.policy_weights[:, 0].numpy(), ids)
    assert np.array_equal(samples.returns.numpy(), 10 * ids)
    observed = np.array([samples.counts[ids == newest_first].sum() for newest_first in (7, 6, 5, 4, 3)])
    expected = n_draws * buffer.probabilities()
    assert observed.sum() == n_draws
    assert ((observed - expected) ** 2 / expected).sum() < 18.5  # 99.9% quantile with 4 degrees of freedom


def test_a_policy_drawn_twice_appears_once_with_its_count():
    buffer = fill(PolicyBuffer(buffer_size=5, n_weights=2), 1)
    samples = buffer.sample(7)
    assert samples.policy_weights.shape == (1, 2)
    assert samples.counts.tolist() == [7.0]
    assert all(values.dtype == th.float32 for values in samples)
    samples = fill(buffer, 2, start=1).sample(40)
    assert sorted(samples.commands.tolist()) == [0.0, 1.0, 2.0]
    assert samples.counts.sum() == 40


def of_kinds(kinds, returns, **settings):
    """A buffer with policies of these kinds, whose weight is their number."""
    buffer = PolicyBuffer(buffer_size=50, n_weights=1, seed=1, **settings)
    for number, (kind, episode_return) in enumerate(zip(kinds, returns, strict=True)):
        buffer.add(th.tensor([float(number)]), command=0.0, episode_return=float(episode_return), kind=kind)
    return buffer


def test_those_drawn_evenly_are_probes_or_where_there_are_none_a_critics():
    kinds = [BEST, PROBE, ACTOR, ACTOR, REFINED, BEST, PROBE, PROBE]
    samples = of_kinds(kinds, [0, 1, 1, 10, 10.02, 12, 20, 20], even_fraction=1.0, recency=0.0).sample(3000)
    drawn = dict(zip(samples.policy_weights[:, 0].int().tolist(), samples.even_counts.tolist(), strict=True))
    assert set(drawn) == {1, 3, 4, 6, 7}
    for numbers in ([1], [3, 4], [6, 7]):  # three bins
        assert 900 < sum(drawn[number] for number in numbers) < 1100


def test_a_critics_policies_count_among_the_elites_only():
    kinds = [BEST, ACTOR, REFINED, PROBE] * 5
    samples = of_kinds(kinds, range(20), elite_fraction=0.5, even_fraction=0.25).sample(40)
    is_critics = th.tensor([kinds[int(number)] in (ACTOR, REFINED) for number in samples.policy_weights[:, 0]])
    assert th.equal(samples.critic_counts, samples.elite_counts * is_critics)
    assert samples.elite_counts.sum() == 20
    assert samples.even_counts.sum() == 10
    assert (samples.counts[is_critics] > samples.critic_counts[is_critics]).any()


@pytest.mark.parametrize(("age", "rank"), [(0, 1), (19, 1), (20, 2), (179, 9), (180, 10), (300, 10)])
def test_a_record_that_stands_is_taken_for_luck(age, rank):
    buffer = PolicyBuffer(buffer_size=500, n_weights=1)
    values = [*np.random.default_rng(0).permutation(400), 500]
    for value in [*values[age:-1], 500, *values[:age]]:
        buffer.add(th.zeros(1), command=0.0, episode_return=float(value))
    assert buffer.best_but_for_luck == [500, *range(399, 0, -1)][rank - 1]


def test_has_its_own_random_generator():
    one, two, other = (fill(PolicyBuffer(buffer_size=50, n_weights=2, seed=seed), 50) for seed in (1, 1, 2))
    np.random.seed(0)
    th.manual_seed(0)
    first = one.sample(20).returns
    np.random.seed(1)
    th.manual_seed(1)
    global_state = np.random.get_state()[1].copy()
    assert th.equal(two.sample(20).returns, first)
    assert not th.equal(other.sample(20).returns, first)
    assert np.array_equal(np.random.get_state()[1], global_state)


def test_memory_is_claimed_as_the_buffer_fills():
    fill(PolicyBuffer(buffer_size=10**6, n_weights=2), 1)
    assert len(PolicyBuffer(buffer_size=10**5, n_weights=10**9)) == 0  # 400 TB, once full


def test_stored_weights_are_copies():
    buffer = PolicyBuffer(buffer_size=2, n_weights=2)
    policy_weights = th.zeros(2, requires_grad=True)
    buffer.add(policy_weights, 0.0, 0.0)
    policy_weights.data.fill_(1)
    assert buffer.sample(1).policy_weights.eq(0).all()
    assert not buffer.sample(1).policy_weights.requires_grad


@pytest.mark.parametrize("n_added", [0, 3, 4, 7])
def test_state_dict_round_trip(n_added):
    buffer = fill(PolicyBuffer(buffer_size=4, n_weights=2, seed=1), n_added)
    if n_added:
        buffer.sample(3)  # moves the random generator
    file = io.BytesIO()
    th.save(buffer.state_dict(), file)
    file.seek(0)
    copy = PolicyBuffer(buffer_size=4, n_weights=2, seed=2)
    copy.load_state_dict(th.load(file, weights_only=True))
    assert len(copy) == len(buffer)
    assert ids_newest_first(copy) == ids_newest_first(buffer)
    for _ in range(2):  # they go on alike
        fill(buffer, 3, start=n_added)
        fill(copy, 3, start=n_added)
        for one, two in zip(buffer.sample(10), copy.sample(10), strict=True):
            assert th.equal(one, two)


def test_more_saved_policies_than_fit_keeps_the_newest():
    state = fill(PolicyBuffer(buffer_size=10, n_weights=2), 7).state_dict()
    small = fill(PolicyBuffer(buffer_size=3, n_weights=2), 2, start=100)
    small.load_state_dict(state)
    assert ids_newest_first(small) == [6, 5, 4]
    fill(small, 1, start=7)
    assert ids_newest_first(small) == [7, 6, 5]


def test_loading_into_a_fuller_buffer_forgets_its_content():
    buffer = fill(PolicyBuffer(buffer_size=5, n_weights=2), 5, start=100)
    buffer.load_state_dict(fill(PolicyBuffer(buffer_size=5, n_weights=2), 2).state_dict())
    assert ids_newest_first(buffer) == [1, 0]


def test_other_policy_size_is_refused_and_changes_nothing():
    buffer = fill(PolicyBuffer(buffer_size=4, n_weights=2), 3)
    state = PolicyBuffer(buffer_size=4, n_weights=3).state_dict()
    with pytest.raises(ValueError, match=r"policy_weights must have the shape \(0, 2\), got \(0, 3\)"):
        buffer.load_state_dict(state)
    assert ids_newest_first(buffer) == [2, 1, 0]


@pytest.mark.parametrize(
    ("policy_weights", "episode_return"),
    [([0.0, 0.0], np.nan), ([0.0, 0.0], np.inf), ([np.nan, 0.0], 1.0), ([0.0, -np.inf], 1.0)],
)
def test_non_finite_values_are_refused(policy_weights, episode_return):
    buffer = fill(PolicyBuffer(buffer_size=4, n_weights=2), 3)
    with pytest.raises(ValueError, match=f"only finite policies and returns can be stored, got a return of {episode_return}"):
        buffer.add(th.tensor(policy_weights), 0.0, episode_return)
    assert ids_newest_first(buffer) == [2, 1, 0]


def test_sampling_from_an_empty_buffer_is_an_error():
    with pytest.raises(ValueError, match="cannot sample from an empty PolicyBuffer"):
        PolicyBuffer(buffer_size=4, n_weights=2).sample(1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(buffer_size=0), "buffer_size must be an integer >= 1, got 0"),
        (dict(n_weights=0), "n_weights must be an integer >= 1, got 0"),
        (dict(recency=-0.1), "recency must be a finite number >= 0, got -0.1"),
        (dict(recency=np.nan), "recency must be a finite number >= 0, got nan"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PolicyBuffer(**{**dict(buffer_size=4, n_weights=2), **kwargs})


def test_number_of_elites_is_rounded():
    """0.29 * 100 is 28.999999999999996."""
    buffer = PolicyBuffer(buffer_size=3, n_weights=1, elite_fraction=0.29, seed=0)
    buffer.add(th.zeros(1), 0.0, 1.0)
    assert buffer.sample(100).elite_counts.sum() == 29


def test_elites_are_drawn_by_rank_of_return():
    """Half of the draws follow the ages, half the returns."""
    buffer = PolicyBuffer(buffer_size=3, n_weights=1, recency=1.0, elite_fraction=0.5, seed=0)
    for episode_return in (9.0, 5.0, 1.0, 3.0):  # the first one is overwritten
        buffer.add(th.zeros(1), 0.0, episode_return)
    batches = [buffer.sample(2) for _ in range(20_000)]
    drawn = np.concatenate([batch.returns.repeat_interleave(batch.counts.long()).numpy() for batch in batches])
    by_rank = np.array([6, 3, 2]) / 11  # 1 / rank, normalized
    expected = {
        5.0: 0.5 * by_rank[2] + 0.5 * by_rank[0],  # oldest, best
        1.0: 0.5 * by_rank[1] + 0.5 * by_rank[2],
        3.0: 0.5 * by_rank[0] + 0.5 * by_rank[1],
    }
    for episode_return, probability in expected.items():
        assert (drawn == episode_return).mean() == pytest.approx(probability, abs=0.01)
    elites = np.concatenate([batch.returns.repeat_interleave(batch.elite_counts.long()).numpy() for batch in batches])
    assert len(elites) == 20_000  # one of two
    for episode_return, probability in zip((5.0, 3.0, 1.0), by_rank, strict=True):
        assert (elites == episode_return).mean() == pytest.approx(probability, abs=0.02)
