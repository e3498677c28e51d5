import pytest
import torch as th

from sb3_gogepo import GoGePo
from tests.toy_envs import Seeded

th.set_num_threads(1)

#: policy_kwargs of a model small enough for a fast test
TINY = dict(net_arch=[4], tile_size=4, generator_net_arch=[8], embedding_dim=4, n_probing_states=5, evaluator_net_arch=[8])


@pytest.fixture
def tiny():
    """Constructor arguments of a small, seeded GoGePo that trains every second episode."""
    return dict(
        policy_kwargs=dict(TINY),
        train_freq=(2, "episode"),
        evaluator_gradient_steps=2,
        generator_gradient_steps=2,
        batch_size=4,
        buffer_size=50,
        learning_rate=1e-3,
        weight_noise_std=1.0,
        final_weight_noise_std=None,
        seed=0,
        device="cpu",
    )


@pytest.fixture
def make_model(tiny):
    """``make_model(env, **overrides)``: a small, seeded GoGePo."""

    def make(env=None, **overrides):
        return GoGePo("MlpPolicy", Seeded() if env is None else env, **{**tiny, **overrides})

    return make
