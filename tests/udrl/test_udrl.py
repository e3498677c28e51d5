"""What UDRL alone does."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_gogepo import UDRL, presets
from sb3_gogepo.networks.losses import likelihood_loss
from sb3_gogepo.udrl.acting import CommandActors
from sb3_gogepo.udrl.policies import UDRLPolicy
from sb3_gogepo.udrl.udrl import fit_slope
from tests.helpers import OBSERVATIONS, act, parameters_of, record_logs
from tests.toy_envs import ConstantObs, Seeded, Spaces

BOX = spaces.Box(np.array([-1.0, 10.0], np.float32), np.array([3.0, 20.0], np.float32))


@pytest.fixture
def algorithm():
    return UDRL


def make_policy(action_space=BOX, **kwargs):
    th.manual_seed(0)
    return UDRLPolicy(spaces.Box(-1, 1, (2,), np.float32), action_space, net_arch=[8, 8], **kwargs)


# ---------------------------------------------------------------- loss and networks


def test_likelihood_loss_by_hand():
    log_density = -0.5 * np.log(2 * np.pi)
    loss = likelihood_loss(th.zeros(2, 1), th.full((2, 1), np.log(2.0)), th.tensor([[2.0], [0.0]]))
    assert loss.item() == pytest.approx(-(log_density - np.log(2) - (0.5 + 0) / 2))
    probability = np.exp(1) / (np.exp(1) + 1)
    loss = likelihood_loss(th.tensor([[1.0, 0.0], [0.0, 0.0]]), None, th.tensor([[0.0], [1.0]]))
    assert loss.item() == pytest.approx(-(np.log(probability) + np.log(0.5)) / 2)


@th.no_grad()
def test_the_command_gates_the_first_layer():
    """A closed gate leaves only the biases of what follows, whatever the observation is."""
    policy = make_policy()
    policy.behavior.command_layer.bias.fill_(-100.0)
    outputs = policy.distribution(th.as_tensor(OBSERVATIONS), th.zeros(3), th.ones(3))
    th.testing.assert_close(outputs.means[0], outputs.means[1])
    policy.behavior.command_layer.bias.fill_(0.0)
    outputs = policy.distribution(th.as_tensor(OBSERVATIONS), th.zeros(3), th.ones(3))
    assert not th.allclose(outputs.means[0], outputs.means[1])


@th.no_grad()
def test_standard_deviations_are_clamped():
    policy = make_policy(log_std_range=(-1.0, 0.5))
    policy.behavior.rest[-1].weight.mul_(1e4)
    log_stds = policy.distribution(th.randn(50, 2), th.zeros(50), th.ones(50)).log_stds
    assert log_stds.min() == -1
    assert log_stds.max() == 0.5


@pytest.mark.parametrize("action_space", [BOX, spaces.Discrete(4, start=3)], ids=["Box", "Discrete"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_rollouts_act_as_predict(action_space, deterministic):
    """Both from the same observation, command and (for samples) in distribution."""
    policy = make_policy(action_space)
    policy.command, policy.horizon = 2.0, 5.0
    n = 1 if deterministic else 4000
    observations = np.repeat(OBSERVATIONS[:1], n, axis=0)
    rngs = None if deterministic else [np.random.default_rng(i) for i in range(n)]
    rollout = CommandActors(policy, np.tile([2.0, 5.0], (n, 1)), rngs, n_envs=n)(observations)
    predicted, _ = policy.predict(observations, deterministic=deterministic)
    tolerance = 1e-5 if deterministic else 0.25
    np.testing.assert_allclose(rollout.mean(axis=0), predicted.mean(axis=0), atol=tolerance)
    np.testing.assert_allclose(rollout.std(axis=0), predicted.std(axis=0), atol=tolerance)
    assert all(action_space.contains(action) for action in [*rollout[:5], *predicted[:5]])


@pytest.mark.parametrize("action_space", [BOX, spaces.Discrete(4, start=3)], ids=["Box", "Discrete"])
def test_stored_actions_are_those_of_the_env(action_space):
    policy = make_policy(action_space)
    action_space.seed(0)
    actions = np.array([action_space.sample() for _ in range(20)])
    np.testing.assert_allclose(policy.action_map.unscale(policy.action_map.scale(actions)), actions, rtol=1e-5)


# ---------------------------------------------------------------- the command state


def test_rollouts_take_rewards_from_the_command():
    actors = CommandActors(make_policy(), np.array([[5.0, 2.0], [7.0, 9.0]]), None, n_envs=1, reward_offset=-0.5)
    actors.observe(np.array([1.5]))
    assert actors.state.tolist() == [[4.0, 1.0]]
    actors.observe(np.array([1.5]))
    assert actors.state.tolist() == [[3.0, 1.0]]  # the horizon stays at 1
    actors.start(0, 1)
    assert actors.state.tolist() == [[7.0, 9.0]]


@th.no_grad()
def test_predict_keeps_the_command_state():
    """Predicted rewards are 0.25 by hand; the second env begins a new episode at the second call."""
    policy = make_policy()
    for parameter in policy.reward_model.parameters():
        parameter.zero_()
    policy.reward_scaler.set(offset=0.25, scale=1.0)
    policy.command, policy.horizon = 3.0, 2.0
    observations = OBSERVATIONS[:2]
    _, state = policy.predict(observations, episode_start=np.ones(2, bool))
    assert (state.returns.tolist(), state.horizons.tolist()) == ([2.75, 2.75], [1.0, 1.0])
    _, state = policy.predict(observations, state=state, episode_start=np.array([False, True]))
    assert (state.returns.tolist(), state.horizons.tolist()) == ([2.5, 2.75], [1.0, 1.0])


def test_predict_depends_on_the_state():
    policy = make_policy()
    action, _ = policy.predict(OBSERVATIONS[0], deterministic=True)
    state = (np.array([50.0]), np.array([30.0]))
    other, _ = policy.predict(OBSERVATIONS[0], state=state, episode_start=np.array([False]), deterministic=True)
    assert not np.allclose(action, other)
    again, _ = policy.predict(OBSERVATIONS[0], state=state, episode_start=np.array([True]), deterministic=True)
    assert np.array_equal(action, again)


def test_the_reward_model_stands_in_for_the_rewards():
    """CartPole pays 1 a step, so the desired return falls by about 1 a step."""
    model = UDRL("CartPole-v1", seed=0, device="cpu", n_warm_up_episodes=30).learn(1500)
    env = make_vec_env("CartPole-v1", 2, seed=3)
    observations, state, starts = env.reset(), None, np.ones(2, bool)
    for _ in range(5):
        actions, state = model.predict(observations, state=state, episode_start=starts, deterministic=True)
        observations, _, starts, _ = env.step(actions)
    assert not starts.any()
    np.testing.assert_allclose(state.returns, model.command - 5, atol=0.5)
    assert evaluate_policy(model, env, n_eval_episodes=4)[0] > 5


# ---------------------------------------------------------------- commands and the loop


@pytest.mark.parametrize("command_increment_std", [1.0, 4.0])
@pytest.mark.parametrize("extrapolate_horizon", [False, True])
def test_exploratory_commands(extrapolate_horizon, command_increment_std, make_model):
    """Of the three best, the returns are 3, 4 and 8, the lengths 3, 4 and 2: the line falls by 4/14 a return unit."""
    model = make_model(
        last_few=3,
        command_increment_std=command_increment_std,
        extrapolate_horizon=extrapolate_horizon,
        n_candidates=200,
        n_warm_up_episodes=1,
    )
    for length, reward in [(2, 4.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, -1.0)]:
        model.replay_buffer.add(np.zeros((length, 2)), np.zeros((length, 1)), np.full(length, reward))
    model._candidate_num = 1  # the warm-up is over
    candidates = model.propose_candidates(200)
    best = np.array([3.0, 4.0, 8.0])
    slope = -4 / 14 if extrapolate_horizon else 0.0
    np.testing.assert_allclose(candidates.horizons, np.maximum(3 + slope * (candidates.commands - 5), 1))
    assert (candidates.horizons.min() == 1) == (extrapolate_horizon and command_increment_std == 4)
    assert candidates.commands.min() >= best.mean()
    assert candidates.commands.max() <= best.mean() + command_increment_std * best.std()
    assert np.ptp(candidates.commands) > 0.9 * command_increment_std * best.std()
    model._command_the_best()
    assert (model.command, model.horizon) == (pytest.approx(best.mean()), 3)


def test_slope_of_equal_returns_is_0():
    assert fit_slope(np.full(3, 2.0), np.array([1, 2, 3])) == 0
    assert fit_slope(np.array([1.0, 3.0]), np.array([10, 20])) == 5


def test_warm_up_acts_at_random_and_trains_nothing(make_model):
    env = Spaces(spaces.Box(-1, 1, (2,), np.float32), BOX)
    model = make_model(env, n_warm_up_episodes=40)
    before = parameters_of(model)[-5:]
    model.learn(90)
    actions = np.array(env.actions)
    assert model._n_updates == 0
    np.testing.assert_allclose(actions.mean(axis=0), [1, 15], atol=0.8)
    np.testing.assert_allclose(actions.std(axis=0), np.array([4, 10]) / 12**0.5, rtol=0.2)
    assert th.equal(parameters_of(model)[-5:], before)


def test_command_and_horizon_follow_the_best_until_set(make_model):
    model = make_model(last_few=4).learn(40)
    returns, lengths = model.replay_buffer.best(4)
    assert (model.command, model.horizon) == (pytest.approx(returns.mean()), pytest.approx(lengths.mean()))
    model.horizon = 3
    model.command = 1.5
    model.learn(20, reset_num_timesteps=False)
    assert (model.command, model.horizon) == (1.5, 3)
    model.horizon = None
    returns, lengths = model.replay_buffer.best(4)
    assert (model.command, model.horizon) == (pytest.approx(returns.mean()), pytest.approx(lengths.mean()))


def test_scales(make_model):
    model = make_model().learn(30)
    buffer, policy = model.replay_buffer, model.policy
    largest = np.abs(buffer.stored_returns).max()
    model._update_scalers()
    assert policy.return_scaler.scale.item() == pytest.approx(largest)
    assert policy.horizon_scaler.scale.item() == buffer.lengths.max()
    policy = make_model(return_scale=0.02, horizon_scale=0.01).learn(30).policy
    assert (policy.return_scaler.scale.item(), policy.horizon_scaler.scale.item()) == pytest.approx((50, 100))


def test_alive_bonus_offset_enters_the_rewards(make_model):
    model = make_model(ConstantObs(length=4), alive_bonus_offset=-2.0).learn(20)
    observed = [episode["r"] - 8 for episode in model.ep_info_buffer]
    np.testing.assert_allclose(np.sort(model.replay_buffer.stored_returns), np.sort(observed), atol=1e-4)


def test_logs(make_model):
    model = make_model()
    recorder = record_logs(model)
    model.learn(60, log_interval=2)
    assert {"train/behavior_loss", "train/reward_loss", "train/horizon", "train/command"} <= recorder.entries[-1][1].keys()


def test_preset_for_lunar_lander_learns_on_cart_pole():
    model = UDRL("MlpPolicy", "CartPole-v1", **presets.UDRL_LUNAR_LANDER, seed=0, device="cpu").learn(900)
    assert model._n_updates >= 1
    assert act(model, np.zeros(4, np.float32)) in (0, 1)


def test_behavior_learns_what_the_episodes_did(make_model):
    """Action = 0.5 in episodes of return 3, -0.5 in those of return -3: the command decides."""
    policy_kwargs = dict(net_arch=[32, 32], log_std_range=(-2.0, 2.0))
    model = make_model(
        ConstantObs(), learning_rate=3e-3, batch_size=32, normalize_observations=False, policy_kwargs=policy_kwargs
    )
    for _ in range(5):
        for sign in (-1.0, 1.0):
            model.replay_buffer.add(np.ones((3, 1)), np.full((3, 1), 0.5 * sign), np.full(3, sign))
    model._update_scalers()
    for _ in range(1200):
        model.train_behavior()
    model.horizon = 3
    for command, expected in [(3.0, 0.5), (-3.0, -0.5)]:
        model.command = command
        assert act(model, np.ones(1, np.float32))[0] == pytest.approx(expected, abs=0.1)


BAD = [
    (dict(last_few=0), "last_few must be an integer >= 1, got 0"),
    (dict(command_increment_std=-1), "command_increment_std must be a finite number >= 0, got -1"),
    (dict(extrapolate_horizon="no"), "extrapolate_horizon must be True or False, got 'no'"),
    (dict(gradient_steps=-1), "gradient_steps must be an integer >= 0, got -1"),
    (dict(n_warm_up_episodes=0), "n_warm_up_episodes must be an integer >= 1, got 0"),
    (dict(return_scale=0), "return_scale must be a finite number > 0, got 0"),
    (dict(horizon_scale=-1.0), "horizon_scale must be a finite number > 0, got -1.0"),
    (dict(buffer_size=0), "buffer_size must be an integer >= 1, got 0"),
    (dict(policy_kwargs=dict(net_arch=[])), r"net_arch must be a non-empty list of integers >= 1, got \[\]"),
    (dict(policy_kwargs=dict(log_std_range=(2, 1))), r"log_std_range must be two finite numbers .*got \(2, 1\)"),
    (dict(policy_kwargs=dict(activation_fn="tanh")), "activation_fn must be a torch.nn.Module class .*got 'tanh'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_arguments(arguments, message, make_model):
    with pytest.raises(ValueError, match=message):
        make_model(Seeded(), **arguments)


def test_bad_horizon(make_model):
    with pytest.raises(ValueError, match="horizon must be a finite number >= 1, got 0"):
        make_model().horizon = 0
