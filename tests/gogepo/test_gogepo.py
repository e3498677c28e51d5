"""What GoGePo alone does."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import LinearSchedule

from sb3_gogepo import GoGePo, presets
from tests.helpers import optimizers_of, record_logs
from tests.toy_envs import ConstantObs, Seeded, Spaces


def test_paper_preset():
    policy_kwargs = presets.PAPER["policy_kwargs"]
    model = GoGePo("MlpPolicy", Seeded(), **presets.PAPER, seed=0).learn(10)
    assert model.policy.net_arch == policy_kwargs["net_arch"] == [256, 256]
    assert model.policy.command_scaler.scale.item() == 465
    assert (model.policy.return_scaler.offset.item(), model.policy.return_scaler.scale.item()) == (0, 1)  # raw returns
    assert model._n_updates == model._episode_num  # one training an episode
    steps = [next(iter(optimizer.state.values()))["step"].item() for optimizer in optimizers_of(model)]
    assert steps == [19 * model._n_updates, 4 * model._n_updates]


@pytest.mark.parametrize(("name", "sizes"), [("Swimmer", (528_066, 170_305)), ("Hopper", (544_771, 222_105))])
def test_parameter_counts_of_the_paper_preset(name, sizes):
    n_obs, n_actions = {"Swimmer": (8, 2), "Hopper": (11, 3)}[name]
    env = Spaces(spaces.Box(-1, 1, (n_obs,)), spaces.Box(-1, 1, (n_actions,)))
    policy = GoGePo("MlpPolicy", env, **presets.PAPER).policy
    assert tuple(sum(p.numel() for p in net.parameters()) for net in (policy.generator, policy.evaluator)) == sizes


def test_first_command_then_a_bit_more_than_the_best(make_model):
    model = make_model(
        ConstantObs(), first_command=0.5, command_increment=0.25, command_increment_std=2.0, weight_noise_std=3.0
    )
    assert model.next_commands(np.zeros(2, dtype=bool)).tolist() == [0.5, 0.5]
    model.learn(12)
    returns = model.replay_buffer.stored_returns
    assert len(returns) == 4
    assert model.best_return == returns.max()
    scale = model.policy.return_scaler.scale.item()
    assert scale == pytest.approx(max(returns.std(), (returns.max() - returns.mean()) / 3))
    np.testing.assert_allclose(model.next_commands(np.zeros(3, dtype=bool)), [returns.max() + 0.25 + 2 * scale] * 3)
    assert model.replay_buffer.commands[0] == 0.5
    assert model.replay_buffer.commands[1] == pytest.approx(returns[0] + 0.25 + 2)  # nothing is scaled yet


def test_returns_are_standardized_by_the_buffer(make_model):
    model = make_model(train_freq=(1, "episode")).learn(20)
    returns = model.replay_buffer.stored_returns
    for scaler in (model.policy.command_scaler, model.policy.return_scaler):
        assert (scaler.offset.item(), scaler.scale.item()) == pytest.approx((returns.mean(), returns.std()))


def test_return_range_scales_commands_by_its_width(make_model):
    model = make_model(return_range=(-10.0, 30.0)).learn(10)
    assert (model.policy.command_scaler.offset.item(), model.policy.command_scaler.scale.item()) == (0, 40)
    assert (model.policy.return_scaler.offset.item(), model.policy.return_scaler.scale.item()) == (0, 1)


def test_learning_rate_schedules(make_model):
    model = make_model(
        ConstantObs(length=5),
        learning_rate=LinearSchedule(1.0, 0.0, 1.0),
        evaluator_learning_rate=lambda progress: 0.1 * progress,
    )
    recorder = record_logs(model)
    model.learn(40, log_interval=1)
    # trained after every second episode of five steps
    logged = [values["train/learning_rate"] for _, values in recorder.entries if "train/learning_rate" in values]
    np.testing.assert_allclose(logged, [0.75, 0.5, 0.25, 0.0], atol=1e-9)
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers_of(model)] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_constant_learning_rates(make_model):
    model = make_model(learning_rate=0.01, evaluator_learning_rate=0.02).learn(10)
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers_of(model)] == [0.01, 0.02]


def test_predicted_returns(make_model):
    """V(G(c)) in return units, by hand; the mean of all evaluators."""
    model = make_model().learn(30)
    predicted = model.policy.predict_returns([0.0, 1.0])
    with th.no_grad():
        layers = model.policy.layout.split(model.policy.generate_weights([0.0, 1.0]))
        scaled = model.policy.evaluator(layers).double().mean(dim=0)
    expected = scaled * model.policy.return_scaler.scale + model.policy.return_scaler.offset
    np.testing.assert_allclose(predicted, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_a_lambda_schedule_of_the_evaluator_must_be_passed_again(make_model, tmp_path):
    model = make_model(evaluator_learning_rate=lambda progress: 0.01)
    with pytest.warns(UserWarning, match="evaluator_learning_rate was not saved"):
        model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="pass evaluator_learning_rate= to load"):
        GoGePo.load(tmp_path / "model", env=Seeded()).learn(10)
