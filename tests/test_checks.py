import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from sb3_gogepo import checks


@pytest.mark.parametrize(
    ("value", "kwargs"),
    [
        (0, {}),
        (-1.5, {}),
        (np.float32(2), {}),
        (np.int64(2), dict(integer=True)),
        (0, dict(minimum=0)),
        (1e-9, dict(minimum=0, exclusive=True)),
    ],
)
def test_good_numbers(value, kwargs):
    checks.check_number("x", value, **kwargs)


@pytest.mark.parametrize(
    ("value", "kwargs", "message"),
    [
        (np.nan, {}, "x must be a finite number, got nan"),
        (np.inf, dict(minimum=0), "x must be a finite number >= 0, got inf"),
        ("3", {}, "x must be a finite number, got '3'"),
        (None, {}, "x must be a finite number, got None"),
        (True, {}, "x must be a finite number, got True"),
        (1 + 2j, {}, "x must be a finite number, got"),
        (1.0, dict(integer=True), "x must be an integer, got 1.0"),
        (-1, dict(minimum=0), "x must be a finite number >= 0, got -1"),
        (0, dict(minimum=0, exclusive=True), "x must be a finite number > 0, got 0"),
        (0, dict(minimum=1, integer=True), "x must be an integer >= 1, got 0"),
    ],
)
def test_bad_numbers(value, kwargs, message):
    with pytest.raises(ValueError, match=message):
        checks.check_number("x", value, **kwargs)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, (1, "step")),
        ((3, "episode"), (3, "episode")),
        ([2, "step"], (2, "step")),
        (TrainFreq(2, TrainFrequencyUnit.EPISODE), (2, "episode")),
    ],
)
def test_train_freq(value, expected):
    assert checks.check_train_freq(value) == expected


@pytest.mark.parametrize("value", [0, -1, 1.5, "1", None, (0, "step"), (1, "epoch"), (1, 2, 3), ("episode", 1)])
def test_bad_train_freq(value):
    with pytest.raises(ValueError, match="train_freq must be an integer >= 1"):
        checks.check_train_freq(value)


@pytest.mark.parametrize("value", [[], [1], (3, 4), [np.int64(5)], np.array([2, 3])])
def test_sizes(value):
    checks.check_sizes("x", value)


@pytest.mark.parametrize("value", [[0], [-1], [1.5], ["3"], [True], 3, None, "33", dict(pi=[3])])
def test_bad_sizes(value):
    with pytest.raises(ValueError, match="x must be a list of integers >= 1, got"):
        checks.check_sizes("x", value)


@pytest.mark.parametrize("value", [(0, 1), [-1.5, 3], np.array([0, 1])])
def test_range(value):
    checks.check_range("x", value)


@pytest.mark.parametrize("value", [(1, 0), (1, 1), (0, np.inf), (np.nan, 1), (0,), (0, 1, 2), 3, "ab", None])
def test_bad_range(value):
    with pytest.raises(ValueError, match=r"x must be two finite numbers \(low, high\) with low < high, got"):
        checks.check_range("x", value)


def test_choice():
    checks.check_choice("x", "a", ("a", "b"))
    with pytest.raises(ValueError, match="x must be one of 'a', 'b', got 'c'"):
        checks.check_choice("x", "c", ("a", "b"))


@pytest.mark.parametrize("value", [0, 1e-3, lambda progress: progress])
def test_learning_rate(value):
    checks.check_schedule("x", value)


@pytest.mark.parametrize("value", [-1e-3, np.nan, "lin_0.1", None])
def test_bad_learning_rate(value):
    with pytest.raises(ValueError, match="x must be a finite number >= 0, got"):
        checks.check_schedule("x", value)


BOX = spaces.Box(-1, 1, (2,), np.float32)


def test_supported_spaces():
    checks.check_observation_space(spaces.Box(-np.inf, np.inf, (3,)), "GoGePo")
    checks.check_action_space(BOX, "GoGePo")
    checks.check_action_space(spaces.Discrete(3), "GoGePo")


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (8, 8, 3), np.uint8),
        spaces.Box(-1, 1, (), np.float32),
        spaces.Dict(a=BOX),
        spaces.Discrete(3),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(2),
        spaces.Tuple([BOX]),
    ],
    ids=str,
)
def test_unsupported_observation_spaces_say_what_to_do(space):
    with pytest.raises(ValueError, match=r"GoGePo supports flat Box observation spaces, got .*FlattenObservation"):
        checks.check_observation_space(space, "GoGePo")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.MultiDiscrete([2, 3]), "supports Box and Discrete action spaces, got MultiDiscrete.*ActionWrapper"),
        (spaces.MultiBinary(2), "supports Box and Discrete action spaces, got MultiBinary.*ActionWrapper"),
        (spaces.Dict(a=BOX), "supports Box and Discrete action spaces, got Dict.*ActionWrapper"),
        (spaces.Box(0, 9, (1,), np.int64), "supports Box action spaces of floats, got Box.*ActionWrapper"),
        (spaces.Box(-np.inf, np.inf, (1,), np.float32), "needs finite action bounds, got Box.*ActionWrapper"),
        (spaces.Box(0, np.inf, (1,), np.float32), "needs finite action bounds, got Box.*ActionWrapper"),
    ],
    ids=str,
)
def test_unsupported_action_spaces_say_what_to_do(space, message):
    with pytest.raises(ValueError, match=f"GoGePo {message}"):
        checks.check_action_space(space, "GoGePo")
