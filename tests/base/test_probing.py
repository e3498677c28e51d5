"""Which candidates probe, and on which commands."""

import numpy as np
import pytest

from sb3_gogepo.base.probing import Probing


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 0), (0.125, 25), (0.25, 50), (0.3, 60), (1.0, 200)])
def test_the_fraction_is_met(fraction, expected):
    assert sum(Probing(fraction, 1).is_probe(number) for number in range(200)) == expected


def test_probes_are_spread_evenly_over_the_candidates():
    numbers = [number for number in range(100) if Probing(0.25, 1).is_probe(number)]
    assert np.diff(numbers).tolist() == [4] * 24


def test_their_commands_leave_no_large_gap_at_any_time():
    probing = Probing(0.25, 3)
    places = [probing.place(number) for number in range(400) if probing.is_probe(number)]
    assert 0 <= min(places) <= max(places) < 1
    for n in (10, 20, 50, 100):
        edges = np.sort([0.0, *places[:n], 1.0])
        assert np.diff(edges).max() < 3 / n


def test_runs_of_other_seeds_have_other_commands():
    assert Probing(0.5, 1).place(7) != Probing(0.5, 2).place(7)
