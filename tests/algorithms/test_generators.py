"""What the algorithms that generate policies share."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_gogepo import UDRLPG, GeneratedPolicy, GoGePo
from sb3_gogepo.buffers.policy_buffer import BEST, PROBE
from sb3_gogepo.networks.policy_weights import forward_policies
from sb3_gogepo.rollouts.rollout import Episode
from tests.helpers import OBSERVATIONS, record_logs
from tests.toy_envs import ConstantObs, Spaces

GENERATORS = [GoGePo, UDRLPG]


@pytest.fixture(params=GENERATORS, ids=lambda algorithm: algorithm.__name__)
def algorithm(request):
    return request.param


@pytest.mark.parametrize("net_arch", [[], [5], [7, 3, 6]], ids=str)
@pytest.mark.parametrize("average_tile_biases", [False, True])
def test_any_policy_shape_learns(net_arch, average_tile_biases, make_model, tiny):
    policy_kwargs = {
        **tiny["policy_kwargs"],
        "net_arch": net_arch,
        "average_tile_biases": average_tile_biases,
        "activation_fn": th.nn.ReLU,
    }
    model = make_model(policy_kwargs=policy_kwargs).learn(10)
    assert model.predict(OBSERVATIONS)[0].shape == (3, 1)


@pytest.mark.parametrize(("normalize_observations", "fold_normalization"), [(False, False), (False, True), (True, True)])
def test_buffer_holds_what_the_candidates_did(normalize_observations, fold_normalization, make_model, tiny):
    """Return and noisy policy belong together: acting again with the stored weights earns the stored return."""
    model = make_model(
        ConstantObs(),
        normalize_observations=normalize_observations,
        fold_normalization=fold_normalization,
        policy_kwargs=dict(tiny["policy_kwargs"], net_arch=[]),
    ).learn(15)
    buffer = model.replay_buffer
    for weights, episode_return in zip(buffer.policy_weights[: len(buffer)], buffer.stored_returns, strict=True):
        assert episode_return == pytest.approx(3 * np.tanh(float(weights.sum())), abs=1e-5)


@pytest.mark.parametrize("fold_normalization", [False, True])
def test_stored_policies_go_on_acting_as_they_did(fold_normalization, make_model):
    env = Spaces(spaces.Box(-5, 5, (3,)), spaces.Box(-1, 1, (1,)))
    model = make_model(env, fold_normalization=fold_normalization).learn(15)
    states = np.random.default_rng(0).normal(size=(10, 3))

    def actions():
        weights = model.stored_weights(model.replay_buffer.state_dict()["policy_weights"])
        layers = model.policy.layout.split(weights)
        return forward_policies(layers, model.policy.normalizer(th.from_numpy(states)), model.policy.activation)

    before = actions()
    model.policy.normalizer.update(states * 3 + 1)
    change = (actions() - before).abs().max().item()
    assert change < 1e-4 if fold_normalization else change > 1e-2


def test_noise_follows_the_fan_in(make_model, tiny):
    kwargs = dict(policy_kwargs=dict(tiny["policy_kwargs"], net_arch=[100]), n_candidates=200, weight_noise_std=0.5)
    for scaling, expected in [("fan_in", [0.5 / 2**0.5, 0.5 / 100**0.5]), ("none", [0.5, 0.5])]:
        model = make_model(weight_noise_scaling=scaling, **kwargs)
        candidates = model.propose_candidates(200)
        noise = candidates.policy_weights - model.policy.generate_weights(candidates.commands)
        stds = [layer.weight.std().item() for layer in model.policy.layout.split(noise)]
        np.testing.assert_allclose(stds, expected, rtol=0.05)
        assert len(set(candidates.seeds)) == 200


def test_every_candidate_has_its_own_noise_and_seed(make_model):
    """Within an iteration and between iterations."""
    model = make_model(n_candidates=3, weight_noise_std=1.0)
    noise, seeds = [], []
    for _ in range(2):
        candidates = model.propose_candidates(3)
        noise += list(candidates.policy_weights - model.policy.generate_weights(candidates.commands))
        seeds += candidates.seeds
        model.learn(1, reset_num_timesteps=False)
    assert len(set(seeds)) == 6
    assert all(not th.allclose(noise[i], noise[j]) for i in range(6) for j in range(i))


def test_noise_falls_during_the_training(make_model):
    model = make_model(ConstantObs(length=5), weight_noise_std=2.0, final_weight_noise_std=1.0)
    recorder = record_logs(model)
    model.learn(20, log_interval=1)
    logged = [values["train/weight_noise_std"] for _, values in recorder.entries]
    np.testing.assert_allclose(logged, [2.0, 1.75, 1.5, 1.25])  # what the episode was made with


def test_noise_falls_within_the_given_steps_of_a_longer_training(make_model):
    model = make_model(ConstantObs(length=5), weight_noise_std=2.0, final_weight_noise_std=1.0, weight_noise_steps=10)
    recorder = record_logs(model)
    model.learn(20, log_interval=1)
    logged = [values["train/weight_noise_std"] for _, values in recorder.entries]
    np.testing.assert_allclose(logged, [2.0, 1.5, 1.0, 1.0])
    assert make_model(final_weight_noise_std=0.5, weight_noise_steps=None).propose_candidates(1).noise_std == 1.0


def test_a_command_out_of_range_is_warned_about_once(make_model):
    model = make_model().learn(30)
    low, high = model.replay_buffer.stored_returns.min(), model.replay_buffer.stored_returns.max()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.command = high
        model.generate_policy(low)
        model.evaluate_commands([low, high], n_eval_episodes=1)
    with pytest.warns(
        UserWarning, match=f"command {high + 1:g} lies outside the returns seen in training, {low:g} to {high:g}"
    ):
        model.command = high + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate_policy(high + 2)


def test_without_noise_candidates_are_the_generated_policies(make_model):
    model = make_model(weight_noise_std=0.0, n_candidates=2)
    candidates = model.propose_candidates(2)
    assert th.equal(candidates.policy_weights, model.policy.generate_weights(candidates.commands))


def test_predict_uses_the_best_command_until_one_is_set(make_model):
    model = make_model().learn(30)
    assert model.command == model.best_return
    model.command = -3.0
    assert model.learn(10, reset_num_timesteps=False).command == -3.0
    model.command = None
    assert model.command == model.best_return


def test_predict_follows_command_and_training(make_model):
    model = make_model(ConstantObs()).learn(30)
    before = model.predict(np.ones(1, np.float32))[0]
    model.command = model.command + 10
    assert model.predict(np.ones(1, np.float32))[0] != before
    model.command = None
    assert model.predict(np.ones(1, np.float32))[0] == before
    model.learn(30, reset_num_timesteps=False)
    assert model.predict(np.ones(1, np.float32))[0] != before


def test_predict_normalizes_observations(make_model, tiny):
    """By hand: scaled command, generated weights, normalized observation."""
    model = make_model(policy_kwargs=dict(tiny["policy_kwargs"], net_arch=[])).learn(30)
    (weight, bias), *_ = model.policy.layout.split(model.policy.generate_weights([model.command]))
    normalizer = model.policy.normalizer
    normalized = (OBSERVATIONS - normalizer.mean.numpy()) / normalizer.var.sqrt().numpy()
    expected = np.tanh(normalized @ weight[0].numpy().T + bias[0].numpy())
    np.testing.assert_allclose(model.predict(OBSERVATIONS)[0], expected, rtol=1e-4, atol=1e-5)


ASYMMETRIC = spaces.Box(np.array([-1.0, 0.1, 10.0], np.float32), np.array([3.0, 0.7, 1000.0], np.float32))


@pytest.mark.parametrize("action_space", [ASYMMETRIC, spaces.Discrete(3, start=2)], ids=["asymmetric Box", "Discrete"])
def test_rollouts_act_as_predict(action_space, make_model):
    """With noise off, the actions an episode took are those predicted for its observations."""

    class Recording(Spaces):
        def reset(self, **kwargs):
            self.last, info = super().reset(**kwargs)
            return self.last, info

        def step(self, action):
            self.last, *rest = super().step(action)
            return self.last, *rest

    env = Recording(spaces.Box(-3, 3, (2,), np.float32), action_space, length=10)
    model = make_model(env).learn(40)
    env.reset(seed=0)
    expected = []
    for _ in range(10):
        expected.append(model.predict(env.last)[0])
        env.step(expected[-1])
    env.actions.clear()
    model.evaluate_commands([model.command], n_eval_episodes=1, env=env, seed=0)
    np.testing.assert_allclose(env.actions, expected, rtol=1e-4, atol=1e-5)
    assert all(action_space.contains(action) for action in env.actions)


def saturate(model):
    """Make the generated policies act at their bounds."""
    with th.no_grad():
        for parameter in model.policy.generator.parameters():
            parameter.mul_(50)
    model.policy.forget_acting_weights()


def test_predicted_actions_stay_within_the_bounds(make_model):
    rng = np.random.default_rng(0)
    low = rng.normal(scale=10, size=100).astype(np.float32)
    action_space = spaces.Box(low, low + rng.exponential(size=100).astype(np.float32))
    model = make_model(Spaces(spaces.Box(-1, 1, (2,)), action_space))
    saturate(model)
    for policy in (model, model.generate_policy(100.0)):
        actions = policy.predict(OBSERVATIONS)[0]
        assert np.isclose(actions, action_space.low).any()
        assert np.isclose(actions, action_space.high).any()
        assert all(action_space.contains(action) for action in actions)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCarContinuous-v0"])
def test_generated_policy_acts_as_the_model_does(env_id, tiny, tmp_path, algorithm):
    model = algorithm(env_id, **tiny).learn(20)
    observations = np.array([model.observation_space.sample() for _ in range(20)])
    policy = model.generate_policy(17.0)
    assert isinstance(policy, GeneratedPolicy)
    assert policy.command == 17.0
    model.command = 17.0
    np.testing.assert_allclose(policy.predict(observations)[0], model.predict(observations)[0], rtol=1e-4, atol=1e-5)

    policy.save(tmp_path / "policy")
    loaded = GeneratedPolicy.load(tmp_path / "policy")
    assert loaded.command == 17.0
    assert np.array_equal(loaded.predict(observations)[0], policy.predict(observations)[0])
    one, two = (evaluate_policy(actor, tiny_env(env_id), n_eval_episodes=2, warn=False) for actor in (policy, loaded))
    assert one == two


def tiny_env(env_id):
    env = gym.make(env_id, max_episode_steps=20)
    env.reset(seed=3)
    return env


def test_generated_policy_does_not_follow_the_model(make_model):
    model = make_model().learn(20)
    policy = model.generate_policy(1.0)
    before = policy.predict(OBSERVATIONS)[0]
    model.learn(40, reset_num_timesteps=False)
    assert np.array_equal(policy.predict(OBSERVATIONS)[0], before)
    assert not np.array_equal(model.generate_policy(1.0).predict(OBSERVATIONS)[0], before)


@pytest.mark.parametrize("n_steps", [0, 20], ids=["before", "after training"])
def test_generated_policy_can_be_exported(n_steps, make_model):
    model = make_model()
    if n_steps:
        model.learn(n_steps)
    policy = model.generate_policy(1.0)
    observations = th.as_tensor(OBSERVATIONS)
    exported = th.export.export(policy, (observations,), dynamic_shapes=({0: th.export.Dim("n")},)).module()
    other = th.cat([observations, 0.3 * observations])
    th.testing.assert_close(exported(other), policy(other))


def test_evaluate_commands_by_hand(make_model):
    model = make_model(make_vec_env(ConstantObs, 2)).learn(18)
    sweep = model.evaluate_commands([-1.0, 0.5, 2.0], n_eval_episodes=3)
    expected = [3 * model.generate_policy(command).predict(np.ones(1, np.float32))[0][0] for command in (-1.0, 0.5, 2.0)]
    np.testing.assert_allclose(sweep.mean_returns, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sweep.std_returns, 0, atol=1e-6)
    assert sweep.commands.tolist() == [-1.0, 0.5, 2.0]
    assert sweep.mean_lengths.tolist() == [3, 3, 3]


def test_evaluate_policy_on_the_model(make_model):
    model = make_model(ConstantObs()).learn(9)
    mean, std = evaluate_policy(model, Monitor(ConstantObs()), n_eval_episodes=3)
    assert mean == pytest.approx(3 * model.predict(np.ones(1, np.float32))[0][0], abs=1e-5)
    assert std == pytest.approx(0, abs=1e-6)


def test_probes_act_without_noise_on_commands_from_the_whole_range(make_model):
    model = make_model(probe_fraction=0.5, weight_noise_std=3.0).learn(60)
    low, high = model.command_range
    candidates = model.propose_candidates(40)
    assert (candidates.kinds == PROBE).sum() == 20
    generated = model.policy.generate_weights(candidates.commands)
    same = (candidates.policy_weights == generated).all(dim=1).numpy()
    assert np.array_equal(same, candidates.kinds == PROBE)
    probed = candidates.commands[candidates.kinds == PROBE]
    assert low <= probed.min() < low + 0.2 * (high - low)
    assert high >= probed.max() > high - 0.2 * (high - low)
    assert np.ptp(candidates.commands[candidates.kinds != PROBE]) == 0


def test_nobody_probes_before_there_is_a_range(make_model):
    model = make_model(probe_fraction=1.0)
    assert not (model.propose_candidates(4).kinds == PROBE).any()
    with pytest.raises(ValueError, match="command_range is known after the first episode"):
        _ = model.command_range


def test_nobody_probes_in_the_first_part_of_the_training(make_model):
    model = make_model(ConstantObs(length=1), probe_fraction=1.0, probe_after=0.75, n_candidates=1)
    kinds, propose = [], model.propose_candidates

    def propose_and_note(n_candidates):
        candidates = propose(n_candidates)
        kinds.extend(candidates.kinds.tolist())
        return candidates

    model.propose_candidates = propose_and_note
    model.learn(40)
    assert kinds == 30 * [BEST] + 10 * [PROBE]


def test_command_range_is_that_of_the_returns(make_model):
    model = make_model().learn(60)
    returns = model.replay_buffer.stored_returns
    assert model.command_range == (pytest.approx(np.quantile(returns, 0.02)), model.best_return)


def test_seeds_are_known_beforehand(make_model):
    """So that an env that is done can be reset for the next iteration."""
    model = make_model(probe_fraction=0.5).learn(20)
    expected = [model.reset_seed(i) for i in range(6)]
    assert model.propose_candidates(6).seeds == expected


def test_calibrated_commands_earn_what_is_asked(make_model, tmp_path):
    """Returns are made half of what is asked; the file and the stand-alone policy know of the calibration."""
    model = make_model(ConstantObs()).learn(60)
    low, high = model.command_range

    def run_commands(env, commands, seeds):
        earned = model.policy.calibration(th.from_numpy(np.asarray(commands))).numpy() * 0.5 + 0.5 * low
        return [Episode(float(value) - 3 * model.alive_bonus_offset, 3, None) for value in earned for _ in seeds]

    model.run_commands = run_commands
    measured = model.calibrate(n_commands=11, n_eval_episodes=4)
    assert measured.r2 < 0.8
    target = low + 0.3 * (high - low)
    assert model.evaluate_commands([target], n_eval_episodes=1).mean_returns[0] == pytest.approx(target, rel=0.02)
    del model.run_commands
    commanded = model.policy.calibration(th.tensor([target], dtype=th.float64)).item()
    expected = model.policy.generate_weights([commanded])
    actor = model.generate_policy(target)
    linears = [part for layer in actor.mlp if isinstance(layer, th.nn.Linear) for part in (layer.weight, layer.bias)]
    assert th.allclose(th.cat([part.ravel() for part in linears]).sort()[0], expected.ravel().sort()[0], atol=1e-6)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model.zip")
    assert loaded.policy.calibration.is_on
    assert th.equal(loaded.policy.calibration.commands, model.policy.calibration.commands)
    model.learn(10, reset_num_timesteps=False)
    assert not model.policy.calibration.is_on  # the generator has moved on


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(n_commands=1), "n_commands must be an integer >= 2"),
        (dict(n_eval_episodes=1), "n_eval_episodes must be an integer"),
    ],
)
def test_calibrate_bad_input(kwargs, message, make_model):
    model = make_model().learn(20)
    with pytest.raises(ValueError, match=message):
        model.calibrate(**kwargs)
    assert not model.policy.calibration.is_on


def test_calibrate_without_env(make_model, tmp_path):
    make_model().learn(20).save(tmp_path / "model")
    loaded = make_model().__class__.load(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="no env to evaluate in"):
        loaded.calibrate()
