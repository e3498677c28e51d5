"""Properties that hold for any numbers: buffers, weight layout, statistics, scaling of commands."""

import json

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sb3_gogepo.buffers.bucket_buffer import BucketBuffer
from sb3_gogepo.buffers.policy_buffer import PolicyBuffer
from sb3_gogepo.networks.normalization import ObservationNormalizer, ReturnScaler
from sb3_gogepo.networks.policy_weights import BatchedActor, WeightLayout, forward_policies
from sb3_gogepo.saving import archive

FEW = settings(max_examples=50, deadline=None, derandomize=True)
RETURNS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40)
SIZES = st.lists(st.integers(1, 6), min_size=2, max_size=4)
BUFFERS = {
    "PolicyBuffer": lambda size: PolicyBuffer(buffer_size=size, n_weights=2, elite_fraction=0.5, seed=1),
    "BucketBuffer": lambda size: BucketBuffer(buffer_size=size, n_weights=2, n_buckets=5, bucket_size=2, seed=1),
}


def fill(buffer, returns):
    for i, value in enumerate(returns):
        buffer.add(th.tensor([float(i), value]), float(i), value)


@pytest.mark.parametrize("kind", BUFFERS)
@given(returns=RETURNS, size=st.integers(1, 20))
@FEW
def test_buffers_keep_whole_policies(kind, returns, size):
    """What is sampled was added: weights, command and return of one policy, never of two."""
    buffer = BUFFERS[kind](size)
    fill(buffer, returns)
    assert 1 <= len(buffer) <= min(size, len(returns))
    samples = buffer.sample(16)
    for weights, command, value in zip(samples.policy_weights, samples.commands, samples.returns, strict=True):
        assert weights[0] == command
        assert weights[1] == value == np.float32(returns[int(command)])


@given(returns=RETURNS, size=st.integers(1, 20))
@FEW
def test_the_newest_policies_stay(returns, size):
    buffer = BUFFERS["PolicyBuffer"](size)
    fill(buffer, returns)
    assert buffer.stored_returns.tolist() == returns[-size:]
    assert buffer.probabilities().sum() == pytest.approx(1)
    assert (np.diff(buffer.probabilities()) <= 0).all()


@given(returns=RETURNS, size=st.integers(1, 20))
@FEW
def test_no_bucket_overflows(returns, size):
    buffer = BUFFERS["BucketBuffer"](size)
    fill(buffer, returns)
    stored = buffer.stored_returns
    assert np.bincount(buffer.bucket_of(stored)).max() <= 2
    assert buffer.range_seen == (min(returns), max(returns))
    assert buffer.probabilities()[1].sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", BUFFERS)
@given(returns=RETURNS, size=st.integers(1, 20), more=RETURNS)
@FEW
def test_a_saved_buffer_goes_on_as_the_old_one(kind, returns, size, more):
    one, two = BUFFERS[kind](size), BUFFERS[kind](size)
    fill(one, returns)
    two.load_state_dict(one.state_dict())
    for buffer in (one, two):
        fill(buffer, more)
    for first, second in zip(one.sample(8), two.sample(8), strict=True):
        assert th.equal(first, second)
    assert one.stored_returns.tolist() == two.stored_returns.tolist()


@given(sizes=SIZES, n_policies=st.integers(1, 4), seed=st.integers(0, 2**31))
@FEW
def test_split_and_join_are_inverse(sizes, n_policies, seed):
    layout = WeightLayout(sizes)
    weights = th.randn(n_policies, layout.n_weights, generator=th.Generator().manual_seed(seed))
    assert th.equal(layout.join(layout.split(weights)), weights)
    assert len(layout.fan_in()) == layout.n_weights


@given(sizes=SIZES, n_policies=st.integers(1, 4), seed=st.integers(0, 2**31))
@FEW
def test_all_forwards_agree(sizes, n_policies, seed):
    """Policies of torch modules, of the batched torch forward and of the batched NumPy one."""
    layout, generator = WeightLayout(sizes), th.Generator().manual_seed(seed)
    weights = th.randn(n_policies, layout.n_weights, generator=generator)
    observations = th.randn(n_policies, sizes[0], generator=generator)
    modules = []
    for n_in, n_out in layout.shapes:
        modules += [th.nn.Linear(n_in, n_out), th.nn.Tanh()]
    network = th.nn.Sequential(*modules[:-1])
    batched = forward_policies(layout.split(weights), observations.unsqueeze(1), th.tanh).squeeze(1)
    acted = BatchedActor(layout, weights, th.nn.Tanh())(observations.numpy())
    for i in range(n_policies):
        th.nn.utils.vector_to_parameters(weights[i], network.parameters())
        with th.no_grad():
            expected = network(observations[i])
        th.testing.assert_close(batched[i], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(acted[i], expected, rtol=1e-4, atol=1e-5)


@given(
    observations=arrays(np.float64, st.tuples(st.integers(2, 30), st.just(3)), elements=st.floats(-1e3, 1e3)),
    cuts=st.sets(st.integers(1, 29), max_size=4),
)
@FEW
def test_merged_statistics_are_those_of_all(observations, cuts):
    """However the observations are cut into episodes."""
    normalizer = ObservationNormalizer(3)
    for part in np.split(observations, sorted(cut for cut in cuts if cut < len(observations))):
        normalizer.update(part)
    assert normalizer.count == len(observations)
    np.testing.assert_allclose(normalizer.mean, observations.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(normalizer.var, observations.var(axis=0), rtol=1e-6, atol=1e-6)


@given(returns=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), command=st.floats(-1e6, 1e6))
@FEW
def test_scaled_commands(returns, command):
    scaler = ReturnScaler()
    scaler.fit(np.array(returns))
    values = th.tensor([command], dtype=th.float64)
    scale = float(scaler.scale)
    assert scale > 0
    back = scaler.unscale(scaler(values).double()).item()
    assert back == pytest.approx(command, rel=1e-4, abs=max(scale, abs(float(scaler.offset))) * 1e-5)
    assert float(scaler(th.tensor([max(returns)], dtype=th.float64))) <= 3 + 1e-3
    higher = scaler(values + scale)
    assert higher > scaler(values) or scale < abs(command) * 1e-5  # the order of commands is kept


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(value=JSON)
@FEW
def test_settings_survive_a_file(value):
    assert archive.decode(json.loads(json.dumps(archive.encode(value)))) == value
