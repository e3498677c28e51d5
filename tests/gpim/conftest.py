import pytest

from sb3_gogepo import GPIM
from sb3_gogepo.gpim import Navigation2D

TINY = dict(net_arch=[8], discriminator_net_arch=[8], n_latents=4)
#: a small, seeded model that trains from its second iteration on
SMALL = dict(
    policy_kwargs=TINY,
    learning_starts=10,
    batch_size=8,
    train_freq=5,
    buffer_size=60,
    learning_rate=1e-3,
    seed=0,
    device="cpu",
)
#: goal type -> arguments of env and model
KINDS = {
    "fixed": (dict(), dict()),
    "image": (dict(goal_space="image"), dict()),
    "dynamic": (dict(goal_type="dynamic"), dict(goal_type="dynamic", segment_length=4)),
    "sequence": (dict(goal_type="sequence"), dict(goal_type="sequence", segment_length=5)),
}


def make_env(**arguments):
    return Navigation2D(**{"horizon": 10, **arguments})


@pytest.fixture
def make_model():
    """``make_model(env, **overrides)``: a small, seeded GPIM."""
    return lambda env=None, **overrides: GPIM("MultiInputPolicy", env or make_env(), **{**SMALL, **overrides})
