"""What a sweep says of how commands are met, and the calibration that is fitted on two of them."""

import numpy as np
import pytest
import torch as th

from sb3_gogepo.base.command_sweep import CommandSweep, fit_calibration, join_sweeps
from sb3_gogepo.networks.calibration import Calibration


def sweep(commands, returns, std=0.0):
    commands, returns = np.array(commands, dtype=float), np.array(returns, dtype=float)
    return CommandSweep(commands, returns, np.full(len(commands), std), np.ones(len(commands)))


def test_all_met():
    met = sweep([0, 50, 100], [0, 50, 100])
    assert (met.r2, met.mean_error, met.span) == (1.0, 0.0, 100.0)
    assert met.is_met.all()
    assert not met.is_earned_by_none.any()
    assert met.summary() == "R2 1.000, mean error 0.0% of the range, 3 of 3 met"


def test_by_hand():
    """Errors of 0, 20 and 10 on a range of 100; the squares add up to 500, those of the commands around 50 to 5000."""
    partly = sweep([0, 50, 100], [0, 70, 90])
    assert partly.r2 == pytest.approx(0.9)
    assert partly.mean_error == pytest.approx(0.1)
    assert partly.is_met.tolist() == [True, False, True]


def test_returns_that_nothing_earns():
    """As on MountainCarContinuous: below 0, or above 90."""
    gap = sweep([-10, 20, 50, 80, 95], [-9, -8, 94, 95, 95])
    assert gap.is_earned_by_none.tolist() == [False, True, True, True, False]
    assert gap.summary().endswith("no command earns about 20 to 80")


def test_one_command_has_no_range():
    single = sweep([5], [5])
    assert np.isnan(single.r2)
    assert np.isnan(single.mean_error)


def test_joined_sweeps_are_those_of_all_episodes():
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(2, 7))
    parts = [
        CommandSweep(np.arange(2.0), part.mean(axis=1), part.std(axis=1), np.ones(2))
        for part in np.split(returns, [3], axis=1)
    ]
    joined = join_sweeps(parts[0], 3, parts[1], 4)
    np.testing.assert_allclose(joined.mean_returns, returns.mean(axis=1))
    np.testing.assert_allclose(joined.std_returns, returns.std(axis=1))


def test_a_calibration_that_helps_is_adopted():
    commands = np.linspace(0, 100, 11)
    halved = sweep(commands, commands / 2)
    calibration = Calibration()
    fit_calibration(calibration, halved, halved)
    assert calibration.is_on
    # 100 cannot be had: the best command is kept
    assert calibration(th.tensor([10.0, 40.0, 100.0])).tolist() == pytest.approx([20.0, 80.0, 100.0], abs=1.0)


def test_without_a_range_nothing_is_calibrated():
    calibration = Calibration()
    fit_calibration(calibration, sweep([5, 5], [5, 5]), sweep([5, 5], [5, 6]))
    assert not calibration.is_on


@pytest.mark.parametrize("achieved", [np.linspace(0, 100, 11), np.full(11, 50.0)], ids=["met already", "nothing to gain"])
def test_a_calibration_that_does_not_help_is_off(achieved):
    commands = np.linspace(0, 100, 11)
    rng = np.random.default_rng(1)
    calibration = Calibration()
    fit_calibration(calibration, *(sweep(commands, achieved + rng.normal(size=11)) for _ in range(2)))
    assert not calibration.is_on


def test_a_cliff_is_no_slope():
    """Between two neighbours, one of which earns little and one much: a line through them would promise every return."""
    commands = np.linspace(0, 100, 11)
    cliff = sweep(commands, np.where(commands < 65, 0.0, 95.0))
    calibration = Calibration()
    fit_calibration(calibration, cliff, cliff)
    assert not calibration.is_on
