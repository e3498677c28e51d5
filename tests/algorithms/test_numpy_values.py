"""NumPy's numbers are accepted wherever Python's are, and become Python's."""

import numpy as np
import pytest

from sb3_gogepo import UDRL, UDRLPG, GoGePo
from tests.helpers import assert_same_result

SHARED = dict(
    seed=3,
    stats_window_size=7,
    verbose=0,
    n_candidates=2,
    learning_rate=0.25,
    alive_bonus_offset=-0.5,
    normalize_observations=True,
    batch_size=3,
    buffer_size=20,
    train_freq=(2, "episode"),
)
GENERATOR = dict(
    weight_noise_std=0.5,
    final_weight_noise_std=0.25,
    weight_noise_steps=50,
    probe_after=0.5,
    n_warm_up_episodes=1,
    first_command=0.5,
    command_increment=0.25,
    command_increment_std=0.5,
    return_range=(-10.0, 10.0),
    fold_normalization=True,
)
#: algorithm -> arguments, policy_kwargs, all of numbers that float32 holds
VALUES = {
    GoGePo: (
        dict(
            evaluator_learning_rate=0.125,
            recency=1.5,
            elite_fraction=0.5,
            imitation_coef=0.5,
            evaluator_gradient_steps=1,
            generator_gradient_steps=1,
            prune_after=0.25,
            **GENERATOR,
        ),
        dict(
            net_arch=[4],
            tile_size=4,
            generator_net_arch=[8],
            embedding_dim=4,
            n_probing_states=5,
            n_evaluators=2,
            weight_bound=2.5,
        ),
    ),
    UDRLPG: (
        dict(gradient_steps=1, n_buckets=9, bucket_size=2, rank_scale=0.5, freeze_statistics_after=50, **GENERATOR),
        dict(net_arch=[4], tile_size=4, generator_net_arch=[8], embedding_dim=4, output_scale=1.5),
    ),
    UDRL: (
        dict(
            last_few=3,
            command_increment_std=1.5,
            extrapolate_horizon=False,
            gradient_steps=1,
            n_warm_up_episodes=1,
            return_scale=0.5,
            horizon_scale=0.25,
        ),
        dict(net_arch=[4, 4], reward_net_arch=[4], log_std_range=(-5.0, 2.0)),
    ),
}


def as_numpy(value):
    if isinstance(value, dict):
        return {key: as_numpy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(as_numpy(item) for item in value)
    kinds = {bool: np.bool_, int: np.int64, float: np.float32}
    return kinds[type(value)](value) if type(value) in kinds else value


def test_numpy_values_are_as_good_as_pythons(make_model, algorithm, tmp_path):
    own, policy_kwargs = VALUES[algorithm]
    arguments = {**SHARED, **own, "policy_kwargs": policy_kwargs}
    expected = make_model(**arguments).learn(30, log_interval=2)
    model = make_model(**as_numpy(arguments)).learn(np.int64(30), log_interval=np.int32(2))
    assert_same_result(model, expected)
    for name, value in arguments.items():
        own_value = getattr(model, name, None) if name != "stats_window_size" else model._stats_window_size
        assert own_value == value, name
        if not isinstance(value, dict):
            assert not isinstance(own_value, np.generic), name
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    model.policy.save(str(tmp_path / "policy"))
    loaded = algorithm.load(tmp_path / "model", env=model.env, n_candidates=np.int64(3))
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert type(loaded.n_candidates) is int
    loaded.learn(np.float64(10))
    sweep = model.evaluate_commands(np.float32([0.5]), n_eval_episodes=np.int64(2), seed=np.int64(1))
    assert sweep.mean_returns == model.evaluate_commands([0.5], n_eval_episodes=2, seed=1).mean_returns


@pytest.mark.parametrize("seed", np.arange(2, 4))
def test_numpy_seeds(seed, make_model):
    model, expected = make_model(seed=seed).learn(20), make_model(seed=int(seed)).learn(20)
    assert_same_result(model, expected)
    for each, value in ((model, seed), (expected, int(seed))):
        each.set_random_seed(value)
        each.learn(20)
    assert_same_result(model, expected)


def test_a_return_range_may_be_an_array(make_model, algorithm):
    if algorithm is not UDRL:
        make_model(return_range=np.array([0, 10])).learn(20)


def test_evaluate_commands_names_a_wrong_seed(make_model):
    with pytest.raises(ValueError, match="seed must be an integer >= 0, got -1"):
        make_model().evaluate_commands([0.0], seed=-1)
