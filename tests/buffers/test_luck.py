import numpy as np
import pytest
import torch as th

from sb3_gogepo.buffers.luck import MIN_RERUNS, Luck
from sb3_gogepo.buffers.policy_buffer import PolicyBuffer


def run_policies(truths, noise, n_reruns, seed=0):
    """A buffer of policies whose returns are their truth plus noise; the best expected one is run again, and again."""
    rng = np.random.default_rng(seed)
    buffer = PolicyBuffer(buffer_size=len(truths), n_weights=1)
    for truth in truths:
        buffer.add(th.zeros(1), 0.0, truth + noise * rng.standard_normal())
    for _ in range(n_reruns):
        serial = int(buffer.best_policies(1)[0][0])
        buffer.add_run(serial, truths[serial] + noise * rng.standard_normal())
    return buffer


def test_where_nothing_is_luck_returns_are_what_is_expected():
    truths = np.linspace(-3, 5, 30)
    buffer = run_policies(truths, noise=0.0, n_reruns=20)
    assert buffer.measured_luck().share == 0
    np.testing.assert_array_equal(buffer.expected_returns, truths)


def test_where_all_is_luck_the_same_is_expected_of_all():
    buffer = run_policies(np.zeros(200), noise=1.0, n_reruns=100)
    assert buffer.measured_luck().share > 0.8
    assert buffer.stored_returns.max() > 1.5
    assert buffer.expected_returns.max() < 0.4


def test_the_best_keeps_what_is_expected_of_it():
    """Of policies that differ as much as their episodes do: the records promise far more than their policies are worth."""
    rng = np.random.default_rng(1)
    errors, record_errors = [], []
    for seed in range(20):
        truths = rng.standard_normal(100)
        buffer = run_policies(truths, noise=1.0, n_reruns=40, seed=seed)
        best = int(buffer.best_policies(1)[0][0])
        errors.append(buffer.expected_returns[best] - truths[best])
        once = run_policies(truths, noise=1.0, n_reruns=0, seed=seed)
        record_errors.append(once.stored_returns.max() - truths[once.stored_returns.argmax()])
        assert 0.2 < buffer.measured_luck().share < 0.9
    assert np.mean(record_errors) > 1
    assert abs(np.mean(errors)) < 0.25


@pytest.mark.parametrize("n_runs", [1, 2, 9])
def test_mean_and_deviations(n_runs):
    buffer = PolicyBuffer(buffer_size=3, n_weights=1)
    returns = np.random.default_rng(0).normal(5, 3, n_runs)
    for episode_return in (1.0, 2.0, 3.0, 4.0):  # the first two are replaced
        buffer.add(th.zeros(1), 0.0, episode_return)
    buffer.add(th.zeros(1), 0.0, returns[0])
    for episode_return in returns[1:]:
        buffer.add_run(4, episode_return)
    buffer.add_run(1, 100.0)  # gone
    np.testing.assert_allclose(buffer.stored_returns, [3.0, 4.0, returns.mean()])
    np.testing.assert_allclose(buffer.deviations[4 % 3], ((returns - returns.mean()) ** 2).sum(), atol=1e-12)
    buffer.add(th.zeros(1), 0.0, 7.0)
    buffer.add(th.zeros(1), 0.0, 8.0)
    assert buffer.n_runs.tolist() == [1, n_runs, 1]
    buffer.add(th.zeros(1), 0.0, 9.0)  # in the place of the one that was run again
    assert buffer.n_runs.tolist() == [1, 1, 1]
    assert buffer.deviations.tolist() == [0, 0, 0]


def test_luck_is_unknown_before_enough_reruns():
    n_runs, returns, deviations = np.ones(50), np.arange(50.0), np.zeros(50)
    n_runs[0] = MIN_RERUNS
    assert Luck.measured(returns, n_runs, deviations) is None
    n_runs[1] = 2
    assert Luck.measured(returns, n_runs, deviations) is not None


def test_equal_returns_are_no_luck():
    assert Luck(within=0.0, total=0.0, mean=3.0).share == 0
    np.testing.assert_array_equal(Luck(0.0, 0.0, 3.0).expected(np.full(4, 3.0), np.ones(4)), np.full(4, 3.0))


def test_saved_runs_are_restored_and_checked():
    buffer = run_policies(np.linspace(0, 1, 20), noise=1.0, n_reruns=10)
    state, other = buffer.state_dict(), PolicyBuffer(buffer_size=20, n_weights=1)
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.expected_returns, buffer.expected_returns)
    older = {name: part for name, part in state.items() if name not in ("n_runs", "deviations")}
    other.load_state_dict(older)
    np.testing.assert_array_equal(other.expected_returns, buffer.stored_returns)
    for name, value in (("n_runs", 0.0), ("deviations", -1.0), ("n_runs", np.nan)):
        bad = {**state, name: th.full((20,), value, dtype=th.float64)}
        with pytest.raises(ValueError, match=name):
            other.load_state_dict(bad)
