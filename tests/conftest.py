import os

import pytest
import torch as th

from sb3_gogepo import UDRL, UDRLPG, GoGePo
from tests.toy_envs import Seeded

# Tests run side by side, where more threads than cores wait for each other
th.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start

#: policy_kwargs of a GoGePo small enough for a fast test
TINY = dict(net_arch=[4], tile_size=4, generator_net_arch=[8], embedding_dim=4, n_probing_states=5, evaluator_net_arch=[8])
#: ... of a policy that has a generator only
TINY_GENERATOR = dict(net_arch=[4], tile_size=4, generator_net_arch=[8], embedding_dim=4)

#: what all small models have in common: they train every second episode
COMMON = dict(train_freq=(2, "episode"), batch_size=4, buffer_size=50, learning_rate=1e-3, seed=0, device="cpu")
NOISE = dict(weight_noise_std=1.0, final_weight_noise_std=None)
#: algorithm -> constructor arguments of a small, seeded model with two gradient steps (of each network) a training round
SMALL = {
    GoGePo: dict(
        policy_kwargs=TINY,
        evaluator_gradient_steps=2,
        generator_gradient_steps=2,
        prune_after=None,
        probe_fraction=0.25,
        probe_after=0.0,
        **NOISE,
        **COMMON,
    ),
    UDRL: dict(policy_kwargs=dict(net_arch=[8, 4]), gradient_steps=2, n_warm_up_episodes=1, n_candidates=None, **COMMON),
    UDRLPG: dict(
        policy_kwargs=TINY_GENERATOR, gradient_steps=2, n_warm_up_episodes=0, freeze_statistics_after=None, **NOISE, **COMMON
    ),
}


@pytest.fixture
def algorithm():
    """The class under test; the tests of ``algorithms/`` go through all of them."""
    return GoGePo


@pytest.fixture
def tiny(algorithm):
    """Constructor arguments of a small, seeded model that trains every second episode."""
    return {**SMALL[algorithm], "policy_kwargs": dict(SMALL[algorithm]["policy_kwargs"])}


@pytest.fixture
def make_model(algorithm, tiny):
    """``make_model(env, **overrides)``: a small, seeded model."""

    def make(env=None, **overrides):
        return algorithm("MlpPolicy", Seeded() if env is None else env, **{**tiny, **overrides})

    return make


def pytest_collection_modifyitems(items):
    """The slow ones first, RL Zoo's command lines, so that no worker is left alone with them at the end."""
    items.sort(key=lambda item: "tests/zoo/" not in item.nodeid)
