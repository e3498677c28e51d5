"""What UDRLPG alone does."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import LinearSchedule

from sb3_gogepo import UDRLPG, presets
from sb3_gogepo.networks.losses import regression_loss
from tests.gogepo.test_theta_squared import COMMANDS, actions_of, fill_with_random_policies
from tests.helpers import optimizers_of
from tests.toy_envs import ConstantObs, Seeded, Spaces, Square


@pytest.fixture
def algorithm():
    return UDRLPG


def test_regression_loss_by_hand():
    generated = th.tensor([[1.0, 2.0], [0.0, -1.0]], requires_grad=True)
    targets = th.tensor([[0.0, 2.0], [3.0, 1.0]])
    loss = regression_loss(generated, targets, counts=th.tensor([3.0, 1.0]))
    assert loss.item() == (3 * (1 + 0) + 9 + 4) / 8
    loss.backward()
    assert generated.grad.tolist() == [[0.75, 0.0], [-0.75, -0.5]]  # 2 * count * error / (batch size * n_weights)


@pytest.mark.parametrize(
    ("n_obs", "n_actions", "n_parameters"),
    [(8, 2, 2_406_274), (11, 3, 2_472_451), (4, 1, 2_323_681)],
    ids=["Swimmer", "Hopper", "InvertedPendulum"],
)
def test_generator_of_the_paper_preset(n_obs, n_actions, n_parameters):
    """Size, and the spread of the first policies' weights, as measured on the released code."""
    env = Spaces(spaces.Box(-1, 1, (n_obs,)), spaces.Box(-1, 1, (n_actions,)))
    policy = UDRLPG("MlpPolicy", env, **presets.UDRLPG_PAPER, seed=0).policy
    assert sum(parameter.numel() for parameter in policy.generator.parameters()) == n_parameters
    for layer in policy.layout.split(policy.generate_weights([0.0])):
        assert 0.05 < layer.weight.std() < 0.2


def test_paper_preset_learns():
    model = UDRLPG("MlpPolicy", ConstantObs(), **presets.UDRLPG_PAPER, seed=0).learn(36)
    assert (model.policy.command_scaler.offset.item(), model.policy.command_scaler.scale.item()) == (-100, 465)
    assert model._episode_num == 12
    assert model._n_updates == 3  # after the tenth, eleventh and twelfth episode
    assert next(iter(optimizers_of(model)[0].state.values()))["step"].item() == 3 * 8
    assert model.next_commands(np.zeros(1, dtype=bool)).tolist() == [model.best_return]


def test_warm_up(make_model):
    """Different policies, all for the first command, and no training."""
    model = make_model(ConstantObs(), n_warm_up_episodes=5, first_command=0.25, n_candidates=2, train_freq=(1, "episode"))
    before = model.policy.generate_weights([0.0])
    model.learn(12)
    assert model.is_warming_up
    assert model._n_updates == 0
    assert th.equal(model.policy.generate_weights([0.0]), before)
    stored = model.replay_buffer.state_dict()
    assert stored["commands"].tolist() == [0.25] * 4
    assert len(set(stored["returns"].tolist())) == 4
    assert model.learn(6, reset_num_timesteps=False)._n_updates == 2
    assert model.next_commands(np.zeros(2, dtype=bool)).tolist() == [model.best_return] * 2


@pytest.mark.parametrize(("freeze_statistics_after", "n_observations"), [(12, 15), (0, 0), (None, 30)])
def test_statistics_stay_after_that_many_observations(freeze_statistics_after, n_observations, make_model):
    model = make_model(ConstantObs(length=5), freeze_statistics_after=freeze_statistics_after).learn(30)
    assert model.policy.normalizer.count.item() == n_observations


def test_commands_are_standardized_by_the_buffer(make_model):
    model = make_model(train_freq=(1, "episode"), n_buckets=1000).learn(20)
    returns = model.replay_buffer.stored_returns
    scaler = model.policy.command_scaler
    expected = returns.mean(), max(returns.std(), (returns.max() - returns.mean()) / 3)
    assert (scaler.offset.item(), scaler.scale.item()) == pytest.approx(expected)


def test_command_increments(make_model):
    model = make_model(command_increment=2.0, command_increment_std=3.0).learn(20)
    expected = model.best_return + 2 + 3 * model.policy.command_scaler.scale.item()
    assert model.next_commands(np.zeros(1, dtype=bool)) == pytest.approx([expected])


def test_learning_rate_schedule(make_model):
    model = make_model(ConstantObs(length=5), learning_rate=LinearSchedule(1.0, 0.5, 1.0)).learn(20)
    assert optimizers_of(model)[0].param_groups[0]["lr"] == 0.5


def test_generator_learns_the_policies_of_the_buffer(make_model, tiny):
    policy_kwargs = dict(tiny["policy_kwargs"], generator_net_arch=[32])
    model = make_model(
        policy_kwargs=policy_kwargs, bucket_size=1, rank_scale=0.0, learning_rate=1e-2, normalize_observations=False
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    rng = th.Generator().manual_seed(0)
    stored = th.randn(3, model.policy.layout.n_weights, generator=rng)
    for weights, episode_return in zip(stored, [-1.0, 0.0, 1.0], strict=True):
        model.replay_buffer.add(weights, 0.0, episode_return)
    for _ in range(300):
        model.train(1)
    assert (model.policy.generate_weights([-1.0, 0.0, 1.0]) - stored).abs().mean() < 0.1


def test_regression_averages_the_two_roots():
    """The GoGePo paper's example, return = theta ** 2: where GoGePo finds a root, regression ends between the two."""
    model = UDRLPG(
        "MlpPolicy",
        Square(),
        policy_kwargs=dict(net_arch=[], generator_net_arch=[32]),
        buffer_size=400,
        n_buckets=1000,
        bucket_size=400,
        rank_scale=0.0,
        batch_size=32,
        gradient_steps=20,
        n_warm_up_episodes=0,
        normalize_observations=False,
        seed=1,
        device="cpu",
    )
    fill_with_random_policies(model, 400)
    model.set_logger(Logger(folder=None, output_formats=[]))
    for _ in range(30):
        model.train(1)
    assert (np.abs(actions_of(model, COMMANDS)) < 0.2).all()  # the roots are 0.5 to 0.74


BAD = [
    (dict(gradient_steps=-1), "gradient_steps must be an integer >= 0, got -1"),
    (dict(n_buckets=0), "n_buckets must be an integer >= 1, got 0"),
    (dict(bucket_size=1.5), "bucket_size must be an integer >= 1, got 1.5"),
    (dict(rank_scale=-0.3), "rank_scale must be a finite number >= 0, got -0.3"),
    (dict(replace_in_bucket="newest"), "replace_in_bucket must be one of 'oldest', 'none', got 'newest'"),
    (dict(n_warm_up_episodes=-1), "n_warm_up_episodes must be an integer >= 0, got -1"),
    (dict(freeze_statistics_after=-1), "freeze_statistics_after must be an integer >= 0, got -1"),
    (dict(weight_noise_std=-1), "weight_noise_std must be a finite number >= 0, got -1"),
    (dict(return_range=(2, 1)), r"return_range must be two finite numbers .*got \(2, 1\)"),
    (dict(policy_kwargs=dict(output_scale=0)), "output_scale must be a finite number > 0, got 0"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_arguments(arguments, message, make_model):
    with pytest.raises(ValueError, match=message):
        make_model(Seeded(), **arguments)
