from contextlib import nullcontext

import pytest
import torch as th

from sb3_gogepo import GoGePo
from sb3_gogepo.base import command_algorithm
from sb3_gogepo.networks.denormals import are_denormals_flushed, flush_denormals
from tests.helpers import assert_same_result
from tests.toy_envs import ConstantObs

DENORMAL = 1e-40

pytestmark = pytest.mark.skipif(not th.set_flush_denormal(False), reason="this CPU cannot flush denormals")


@pytest.fixture(autouse=True)
def as_torch_starts():
    th.set_flush_denormal(False)
    yield
    th.set_flush_denormal(False)


def product():
    return (th.full((100,), DENORMAL) * th.full((100,), 0.5)).max().item()


def test_denormals_count_as_zero_inside():
    assert product() > 0
    with flush_denormals():
        assert product() == 0
    assert product() > 0


@pytest.mark.parametrize("before", [False, True])
def test_afterwards_as_before(before):
    th.set_flush_denormal(before)
    with pytest.raises(KeyError), flush_denormals():
        raise KeyError
    assert are_denormals_flushed() == before


def test_training_flushes_and_episodes_do_not():
    seen = {"train": set(), "episodes": set()}

    class Watched(GoGePo):
        def train(self, n_rounds):
            seen["train"].add(are_denormals_flushed())
            super().train(n_rounds)

        def store_episode(self, *args):
            seen["episodes"].add(are_denormals_flushed())
            super().store_episode(*args)

    Watched("MlpPolicy", ConstantObs(), seed=0, train_freq=10, n_warm_up_episodes=0, device="cpu").learn(30)
    assert seen == {"train": {True}, "episodes": {False}}


def test_what_is_learned_stays_the_same(monkeypatch):
    """Denormal moments in a place without gradients, as behind a dead unit, change no weight."""

    def trained():
        model = GoGePo("MlpPolicy", ConstantObs(), seed=0, train_freq=10, n_warm_up_episodes=0, device="cpu").learn(30)
        for parameter in model.policy.evaluator.predictor.parameters():
            model.policy.evaluator_optimizer.state[parameter]["exp_avg"].flatten()[::2] = DENORMAL
        return model.learn(30, reset_num_timesteps=False)

    flushed = trained()
    monkeypatch.setattr(command_algorithm, "flush_denormals", nullcontext)
    assert_same_result(flushed, trained())
