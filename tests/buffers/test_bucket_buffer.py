import numpy as np
import pytest
import torch as th

from sb3_gogepo.buffers.bucket_buffer import BucketBuffer


def make_buffer(returns=(), **kwargs):
    """A buffer whose policies' only weight is the number in which they came."""
    buffer = BucketBuffer(**{**dict(buffer_size=20, n_weights=1, n_buckets=10, bucket_size=2, seed=0), **kwargs})
    fill(buffer, returns)
    return buffer


def fill(buffer, returns):
    return [buffer.add(th.tensor([float(buffer.n_offered)]), command=0.0, episode_return=value) for value in returns]


def stored(buffer):
    """Numbers of the stored policies, oldest first."""
    return buffer.state_dict()["policy_weights"].ravel().tolist()


def test_sampling_does_not_depend_on_how_many_policies_a_bucket_holds():
    buffer = make_buffer([0.05, 0.06, 0.07, 0.08, 0.55, 0.95], return_range=(0.0, 1.0), bucket_size=4, rank_scale=0.5)
    places, probabilities = buffer.probabilities()
    expected = np.exp(0.5 * np.array([1, 2, 3])) / np.exp(0.5 * np.array([1, 2, 3])).sum()
    assert buffer.returns[places].tolist() == [0.05, 0.06, 0.07, 0.08, 0.55, 0.95]
    np.testing.assert_allclose(probabilities, [*[expected[0] / 4] * 4, *expected[1:]])


@pytest.mark.parametrize("rank_scale", [0.0, 0.3])
def test_empirical_frequencies(rank_scale):
    buffer = make_buffer([0.0, 0.01, 0.5, 1.0], rank_scale=rank_scale)
    batches = [buffer.sample(50) for _ in range(200)]
    drawn = np.concatenate([batch.returns.repeat_interleave(batch.counts.long()).numpy() for batch in batches])
    frequency = [np.isclose(drawn, value).mean() for value in (0.0, 0.01, 0.5, 1.0)]
    np.testing.assert_allclose(frequency, buffer.probabilities()[1], atol=0.02)


def test_many_ranks_do_not_overflow():
    buffer = make_buffer(np.arange(1000.0), buffer_size=1000, n_buckets=1000, rank_scale=10.0)
    assert np.isfinite(buffer.probabilities()[1]).all()
    assert buffer.probabilities()[1].sum() == pytest.approx(1)


def test_a_full_bucket_replaces_its_oldest_policy():
    buffer = make_buffer([0.5, 0.0, 0.51, 0.52, 1.0], return_range=(0.0, 1.0))
    assert stored(buffer) == [1, 2, 3, 4]
    assert buffer.stored_returns.tolist() == [0.0, 0.51, 0.52, 1.0]


def test_a_full_bucket_turns_newcomers_away():
    buffer = make_buffer(return_range=(0.0, 1.0), replace_oldest=False)
    assert fill(buffer, [0.5, 0.0, 0.51, 0.52, 1.0]) == [True, True, True, False, True]
    assert stored(buffer) == [0, 1, 2, 4]


def test_bucket_size_is_the_number_of_policies_a_bucket_holds():
    for bucket_size in (1, 2, 5):
        assert len(make_buffer([0.5] * 10, return_range=(0.0, 1.0), bucket_size=bucket_size)) == bucket_size


def test_buckets_of_a_given_range():
    """Lower returns count as the lowest; above the highest, buckets of the same width follow."""
    buffer = make_buffer([-7.0], return_range=(-5.0, 5.0))
    assert buffer.bucket_of(np.array([-9.0, -5.0, -4.01, -4.0, 4.99, 5.0, 6.5])).tolist() == [0, 0, 0, 1, 9, 10, 11]
    assert buffer.stored_returns.tolist() == [-5.0]


def test_buckets_of_the_range_seen_grow_with_it():
    buffer = make_buffer([0.0, 10.0, 5.0, 5.5, 6.1])
    assert buffer.bucket_of(buffer.stored_returns).tolist() == [0, 9, 5, 5, 6]
    fill(buffer, [100.0])  # 0 ... 10 are one bucket and a bit now; the newest of each bucket stay
    assert buffer.bucket_of(buffer.stored_returns).tolist() == [1, 0, 0, 9]
    assert buffer.stored_returns.tolist() == [10.0, 5.5, 6.1, 100.0]


def test_one_return_is_one_bucket():
    buffer = make_buffer([3.0] * 5)
    assert stored(buffer) == [3, 4]
    samples = buffer.sample(7)
    assert samples.returns.tolist() == [3.0] * len(samples.returns)
    assert samples.counts.sum() == 7


def test_when_all_places_are_taken_the_oldest_policy_goes():
    buffer = make_buffer([0.0, 0.9, 0.3, 0.4, 0.5], buffer_size=3, return_range=(0.0, 1.0))
    assert stored(buffer) == [2, 3, 4]


@pytest.mark.parametrize("kwargs", [dict(), dict(return_range=(0.0, 1.0)), dict(replace_oldest=False), dict(buffer_size=6)])
def test_state_is_restored_exactly(kwargs):
    returns = np.random.default_rng(1).normal(size=60)
    one = make_buffer(returns[:30], **kwargs)
    one.sample(5)
    two = make_buffer(**kwargs, seed=5)
    two.load_state_dict(one.state_dict())
    for buffer in (one, two):
        fill(buffer, returns[30:])
    assert stored(one) == stored(two)
    assert one.range_seen == two.range_seen
    assert th.equal(one.sample(9).policy_weights, two.sample(9).policy_weights)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (dict(policy_weights=th.zeros(2, 3)), r"policy_weights must have the shape \(2, 1\), got \(2, 3\)"),
        (dict(returns=th.zeros(1)), r"the saved returns must have the shape \(2,\), got \(1,\)"),
        (dict(numbers=th.zeros(3)), r"the saved numbers must have the shape \(2,\), got \(3,\)"),
        (dict(commands=th.tensor([0.0, th.nan])), "must be finite"),
        (dict(range_seen=[1.0]), "range_seen must be two returns or none"),
    ],
)
def test_damaged_state_is_refused(damage, message):
    buffer = make_buffer([1.0, 2.0])
    before = buffer.state_dict()
    with pytest.raises(ValueError, match=message):
        buffer.load_state_dict({**before, **damage})
    assert th.equal(buffer.state_dict()["policy_weights"], before["policy_weights"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_only_finite_policies_and_returns_are_stored(value):
    buffer = make_buffer([1.0])
    with pytest.raises(ValueError, match="only finite policies and returns"):
        buffer.add(th.zeros(1), 0.0, value)
    with pytest.raises(ValueError, match="only finite policies and returns"):
        buffer.add(th.tensor([value]), 0.0, 1.0)
    assert len(buffer) == buffer.n_offered == 1


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(buffer_size=0), "buffer_size must be an integer >= 1, got 0"),
        (dict(n_weights=0), "n_weights must be an integer >= 1, got 0"),
        (dict(n_buckets=0), "n_buckets must be an integer >= 1, got 0"),
        (dict(bucket_size=0), "bucket_size must be an integer >= 1, got 0"),
        (dict(rank_scale=-1.0), "rank_scale must be a finite number >= 0, got -1.0"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_buffer(**kwargs)


def test_an_empty_buffer_cannot_be_sampled():
    with pytest.raises(ValueError, match="cannot sample from an empty BucketBuffer"):
        make_buffer().sample(1)
