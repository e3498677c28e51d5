"""From the return asked for to the command that earns it."""

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_gogepo.networks.calibration import Calibration, isotonic

NUMBERS = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20)


def test_isotonic_by_hand():
    assert isotonic(np.array([1.0, 3.0, 2.0, 2.0, 5.0])).tolist() == pytest.approx([1, 7 / 3, 7 / 3, 7 / 3, 5])


@given(values=NUMBERS)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_isotonic_never_falls_and_keeps_the_mean(values):
    fitted = isotonic(np.array(values))
    assert (np.diff(fitted) >= -1e-9).all()
    assert fitted.mean() == pytest.approx(np.mean(values), abs=1e-6)


@given(achieved=NUMBERS)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_map_is_monotone_and_stays_in_the_range(achieved):
    commands = np.linspace(-50, 150, len(achieved))
    calibration = Calibration()
    calibration.fit(commands, np.array(achieved))
    calibration.check()
    mapped = calibration(th.linspace(-50, 150, 301, dtype=th.float64)).numpy()
    assert (np.diff(mapped) >= -1e-6).all()
    assert mapped.min() >= -50 - 1e-6
    assert mapped.max() <= 150 + 1e-6


def test_what_is_asked_beyond_the_range_is_commanded():
    calibration = Calibration()
    calibration.fit(np.array([0.0, 10.0]), np.array([0.0, 5.0]))
    assert calibration(th.tensor([-3.0, 12.0])).tolist() == [-3, 12]
    calibration.reset()
    assert calibration(th.tensor([4.0])).tolist() == [4]


@pytest.mark.parametrize(
    ("commands", "achieved", "message"),
    [
        ([1.0], [1.0], "commands must be 2 or more"),
        ([1.0, 2.0], [1.0], "achieved as many"),
        ([2.0, 1.0], [1.0, 2.0], "commands must increase"),
        ([1.0, 2.0], [1.0, float("nan")], "finite"),
    ],
)
def test_bad_input(commands, achieved, message):
    calibration = Calibration()
    with pytest.raises(ValueError, match=message):
        calibration.fit(np.array(commands), np.array(achieved))
    assert not calibration.is_on


def test_older_files_have_none():
    calibration = Calibration()
    calibration.load_state_dict({})
    assert not calibration.is_on


def test_a_map_that_falls_is_refused():
    calibration = Calibration()
    calibration.fit(np.array([0.0, 10.0]), np.array([0.0, 5.0]))
    calibration.commands[20] = -5
    with pytest.raises(ValueError, match="calibration must be monotone"):
        calibration.check()
