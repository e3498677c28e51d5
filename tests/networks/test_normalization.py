import numpy as np
import pytest
import torch as th

from sb3_gogepo.networks.normalization import ObservationNormalizer, ReturnScaler
from sb3_gogepo.networks.policy_weights import Layer


def test_normalizer_is_the_identity_at_first():
    normalizer = ObservationNormalizer(2)
    observations = np.array([[1.5, -3.0]])
    assert np.array_equal(normalizer.frozen()(observations), observations)
    assert normalizer(th.from_numpy(observations)).tolist() == observations.tolist()


def test_statistics_equal_numpys_whatever_the_chunks():
    observations = np.random.default_rng(0).normal(5.0, 3.0, size=(100, 3))
    normalizer = ObservationNormalizer(3)
    for chunk in np.split(observations, [1, 2, 40]):
        normalizer.update(chunk)
    np.testing.assert_allclose(normalizer.mean.numpy(), observations.mean(axis=0))
    np.testing.assert_allclose(normalizer.var.numpy(), observations.var(axis=0))
    assert normalizer.count.item() == 100
    expected = (observations - observations.mean(axis=0)) / (observations.std(axis=0) + 1e-8)
    np.testing.assert_allclose(normalizer.frozen()(observations), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(normalizer(th.from_numpy(observations)).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_outputs_are_float32():
    normalizer = ObservationNormalizer(2)
    for _ in range(2):  # before and after the first update
        assert normalizer.frozen()(np.ones((1, 2))).dtype == np.float32
        assert normalizer(th.ones(1, 2, dtype=th.float64)).dtype == th.float32
        normalizer.update(np.random.default_rng(0).normal(size=(5, 2)))


def test_frozen_does_not_follow_updates():
    normalizer = ObservationNormalizer(1)
    normalizer.update(np.array([[0.0], [2.0]]))
    frozen = normalizer.frozen()
    before = frozen(np.array([[3.0]]))
    normalizer.update(np.array([[100.0]]))
    assert np.array_equal(frozen(np.array([[3.0]])), before)


def test_constant_observations_give_zero():
    normalizer = ObservationNormalizer(1)
    normalizer.update(np.full((5, 1), 7.0))
    assert normalizer.frozen()(np.full((1, 1), 7.0)).tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("mean", "std"),
    [(9.81, 0.0), (9.81, 1e-7), (0.0, 0.0), (0.0, 1e-12), (1e8, 0.0), (-1e8, 1.0), (1e-6, 1e-7), (0.0, 1e-6), (1e3, 1.0)],
)
def test_one_rule_for_what_hardly_varies(mean, std):
    """The module, its NumPy twin and folded layers agree, and what was constant does not explode when it changes a little."""
    normalizer = ObservationNormalizer(1)
    normalizer.update(np.array([[mean - std], [mean + std]]))
    seen = np.array([[mean + std]])
    normalized = normalizer(th.from_numpy(seen))
    assert np.array_equal(normalizer.frozen()(seen), normalized.numpy())
    first = Layer(weight=th.full((1, 1, 1), 0.7), bias=th.full((1, 1), 0.3))
    folded = normalizer.fold(first)
    th.testing.assert_close(
        folded.weight[0] @ th.from_numpy(seen).float() + folded.bias, 0.7 * normalized + 0.3, rtol=2e-3, atol=2e-3
    )
    unfolded = normalizer.unfold(folded)
    th.testing.assert_close(unfolded, first, rtol=2e-4, atol=2e-4)
    if std <= 1e-6 * abs(mean):
        assert abs(normalizer.frozen()(seen * 1.01 + 0.01).item()) < 20


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_observations_are_rounded_to_the_dtype_of_the_space(dtype):
    normalizer = ObservationNormalizer(1, dtype=dtype)
    normalizer.update(np.array([[3.3], [3.301]]))
    observation = np.array([[3.3004567]])
    results = [normalizer.frozen()(observation), normalizer.frozen()(observation.astype(dtype))]
    results += [normalizer(th.from_numpy(values)).numpy() for values in (observation, observation.astype(dtype))]
    assert len({result.item() for result in results}) == 1


def test_statistics_are_saved_with_the_module():
    normalizer, copy = ObservationNormalizer(2), ObservationNormalizer(2)
    normalizer.update(np.random.default_rng(0).normal(size=(5, 2)))
    copy.load_state_dict(normalizer.state_dict())
    observations = np.ones((1, 2))
    assert np.array_equal(copy.frozen()(observations), normalizer.frozen()(observations))


def test_a_folded_layer_does_the_same_with_raw_observations():
    normalizer = ObservationNormalizer(3)
    observations = np.random.default_rng(0).normal([0.0, 5.0, -100.0], [1.0, 0.01, 30.0], size=(50, 3))
    normalizer.update(observations)
    first = Layer(weight=th.randn(2, 4, 3), bias=th.randn(2, 4))
    folded = normalizer.fold(first)
    expected = normalizer(th.from_numpy(observations)) @ first.weight.transpose(1, 2) + first.bias[:, None]
    raw = th.from_numpy(observations).float()
    th.testing.assert_close(raw @ folded.weight.transpose(1, 2) + folded.bias[:, None], expected, rtol=1e-3, atol=1e-3)
    normalizer.update(observations * 3 + 1)
    unfolded = normalizer.unfold(folded)
    assert not th.allclose(unfolded.weight, first.weight)
    seen = normalizer(th.from_numpy(observations))
    th.testing.assert_close(seen @ unfolded.weight.transpose(1, 2) + unfolded.bias[:, None], expected, rtol=1e-3, atol=1e-3)


def test_an_observation_that_never_changed_is_folded_as_if_its_unit_were_1():
    normalizer = ObservationNormalizer(2)
    normalizer.update(np.stack([np.arange(10.0), np.full(10, 7.0)], axis=1))
    folded = normalizer.fold(Layer(weight=th.ones(1, 1, 2), bias=th.zeros(1, 1)))
    std = float(np.arange(10.0).std())
    th.testing.assert_close(folded.weight, th.tensor([[[1 / std, 1.0]]]))
    th.testing.assert_close(folded.bias, th.tensor([[-4.5 / std - 7.0]]))


def test_return_scaler_by_hand():
    scaler = ReturnScaler(offset=10.0, scale=4.0)
    assert scaler(th.tensor([10.0, 18.0])).tolist() == [0.0, 2.0]
    assert scaler.unscale(scaler(th.tensor([3.0, -8.0]))).tolist() == [3.0, -8.0]


def test_frozen_scaler_does_the_same_until_the_scaler_changes():
    scaler = ReturnScaler(offset=10.0, scale=3.0)
    values = np.array([10.0, 1e6 + 1, -3.25])
    frozen, before = scaler.frozen(), scaler(th.from_numpy(values))
    scaler.set(offset=0.0, scale=1.0)
    assert frozen(values).dtype == np.float32
    assert frozen(values).tolist() == before.tolist()


def test_return_scaler_fit():
    scaler = ReturnScaler()
    scaler.fit(np.array([2.0, 6.0]))
    assert (scaler.offset.item(), scaler.scale.item()) == (4.0, 2.0)


@pytest.mark.parametrize(
    ("returns", "offset", "scale"),
    [([], 1.0, 2.0), ([5.0], 5.0, 5.0), ([7.0] * 5, 7.0, 7.0), ([-1e-12] * 2, -1e-12, 1e-12), ([0.0] * 3, 0.0, 1.0)],
    ids=str,
)
def test_equal_returns_are_scaled_by_what_they_are(returns, offset, scale):
    """A command that lies above them, by ``command_increment``, must not become huge."""
    scaler = ReturnScaler(offset=1.0, scale=2.0)
    scaler.fit(np.array(returns))
    assert (scaler.offset.item(), scaler.scale.item()) == (offset, scale)


@pytest.mark.parametrize("unit", [1e-12, 1e-7, 1e7, 1e12, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_returns_are_scaled_alike_in_any_unit(unit, dtype):
    """float32, in which UDRL keeps rewards, cannot hold the squares of the last."""
    returns = np.array([-3.0, 0.5, 2.0, 40.0])
    scaler = ReturnScaler()
    scaler.fit((returns * unit).astype(dtype))
    scaled = scaler(th.from_numpy(returns * unit))
    scaler.fit(returns)
    th.testing.assert_close(scaled, scaler(th.from_numpy(returns)))


@pytest.mark.parametrize("value", [1e6 + 1, -3.25])
def test_scaling_loses_nothing_before_float32(value):
    """Large returns that differ little stay apart: the subtraction is made in float64."""
    scaler = ReturnScaler(offset=1e6, scale=1.0)
    assert scaler(th.tensor([value], dtype=th.float64)).item() == pytest.approx(value - 1e6)


def test_a_lucky_return_is_scaled_to_three():
    scaler = ReturnScaler()
    returns = np.array([0.0] * 99 + [1000.0])
    scaler.fit(returns)
    assert scaler(th.tensor([10.0, 1000.0])).tolist() == pytest.approx([0.0, 3.0])
