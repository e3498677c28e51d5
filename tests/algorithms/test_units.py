"""Learning does not depend on the unit of the reward."""

import numpy as np
import pytest

from sb3_gogepo import UDRL, GoGePo
from tests.helpers import act
from tests.toy_envs import Seeded

OBSERVATIONS = np.array([[0.5, 0.0], [-0.5, 3.0], [2.0, 1.0]], np.float32)


class InUnits(Seeded):
    def __init__(self, unit):
        super().__init__()
        self.unit = unit

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward * self.unit, terminated, truncated, info


@pytest.mark.parametrize("unit", [1e-12, 1e-7, 1e12])
def test_learning_and_commands_are_alike_in_any_unit(unit, make_model, algorithm):
    """The first training comes before the first command, which no scale is known for."""
    n_warm_up = 15 if algorithm is UDRL else 10  # episodes; then it trains before it commands
    overrides = dict(n_candidates=5, n_warm_up_episodes=n_warm_up, train_freq=(5, "episode"))
    if algorithm is GoGePo:
        overrides["weight_noise_steps"] = None
    models = [make_model(InUnits(each), **overrides).learn(150) for each in (1.0, unit)]
    assert models[1].best_return == pytest.approx(models[0].best_return * unit, rel=1e-3)
    commands = np.array([-2.0, 0.0, 1.0, 5.0])
    sweeps = [model.evaluate_commands(commands * each, 2) for model, each in zip(models, (1.0, unit), strict=True)]
    np.testing.assert_allclose(sweeps[1].mean_returns / unit, sweeps[0].mean_returns, rtol=2e-2, atol=2e-2)
    np.testing.assert_allclose(act(models[1], OBSERVATIONS), act(models[0], OBSERVATIONS), atol=2e-2)
    if algorithm is UDRL:
        assert models[1].horizon == pytest.approx(models[0].horizon)
        states = [model.predict(OBSERVATIONS, deterministic=True)[1] for model in models]
        np.testing.assert_allclose(states[1].returns / unit, states[0].returns, rtol=2e-2, atol=2e-2)
