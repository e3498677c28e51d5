import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sb3_gogepo import GeneratedPolicy, GoGePo, presets
from tests.conftest import TINY
from tests.toy_envs import ConstantObs, Seeded, Spaces

OBSERVATIONS = np.array([[0.5, 0.0], [-0.5, 3.0], [2.0, 1.0]], np.float32)


class Recorder(KVWriter):
    """Keeps what is logged: a list of (step, {key: value})."""

    def __init__(self):
        self.entries = []

    def write(self, key_values, key_excluded, step=0):
        self.entries.append((step, dict(key_values)))

    def close(self):
        pass


def record_logs(model):
    recorder = Recorder()
    model.set_logger(Logger(folder=None, output_formats=[recorder]))
    return recorder


def parameters_of(model):
    """All parameters and buffers of the policy as one vector."""
    return th.cat([value.double().flatten() for value in model.policy.state_dict().values()])


def assert_same_result(one, two):
    assert th.equal(parameters_of(one), parameters_of(two))
    assert th.equal(one.replay_buffer.state_dict()["policy_weights"], two.replay_buffer.state_dict()["policy_weights"])
    assert np.array_equal(one.replay_buffer.stored_returns, two.replay_buffer.stored_returns)
    assert one.num_timesteps == two.num_timesteps


# ---------------------------------------------------------------- construction and spelling


def test_env_id_alone(tiny):
    model = GoGePo("InvertedPendulum-v2", **tiny).learn(60.0)
    assert model.num_timesteps >= 60
    assert isinstance(model.num_timesteps, int)


@pytest.mark.parametrize(
    "args",
    [(Seeded(),), ("MlpPolicy", Seeded()), ("MlpPolicy", make_vec_env(Seeded, 2)), (make_vec_env(Seeded, 2),)],
    ids=["env", "alias and env", "alias and VecEnv", "VecEnv"],
)
def test_env_objects(args, tiny):
    model = GoGePo(*args, **tiny).learn(20)
    assert model.observation_space == Seeded().observation_space
    assert model.num_timesteps >= 20


def test_policy_class_as_argument(tiny):
    model = GoGePo(GoGePo.policy_aliases["MlpPolicy"], Seeded(), **tiny)
    assert type(model.policy) is GoGePo.policy_aliases["MlpPolicy"]


def test_default_arguments_learn():
    assert GoGePo(Seeded()).learn(20).num_timesteps >= 20


def test_paper_preset():
    policy_kwargs = presets.PAPER["policy_kwargs"]
    model = GoGePo("MlpPolicy", Seeded(), **presets.PAPER, seed=0).learn(10)
    assert model.policy.net_arch == policy_kwargs["net_arch"] == [256, 256]
    assert model.policy.command_scaler.scale.item() == 465
    assert (model.policy.return_scaler.offset.item(), model.policy.return_scaler.scale.item()) == (0, 1)  # raw returns
    assert model._n_updates == model._episode_num  # one training an episode
    steps = [next(iter(optimizer.state.values()))["step"].item() for optimizer in optimizers_of(model)]
    assert steps == [19 * model._n_updates, 4 * model._n_updates]


def optimizers_of(model):
    return model.policy.generator_optimizer, model.policy.evaluator_optimizer


@pytest.mark.parametrize(("name", "sizes"), [("Swimmer", (528_066, 170_305)), ("Hopper", (544_771, 222_105))])
def test_parameter_counts_of_the_paper_preset(name, sizes):
    n_obs, n_actions = {"Swimmer": (8, 2), "Hopper": (11, 3)}[name]
    env = Spaces(spaces.Box(-1, 1, (n_obs,)), spaces.Box(-1, 1, (n_actions,)))
    policy = GoGePo("MlpPolicy", env, **presets.PAPER).policy
    assert tuple(sum(p.numel() for p in net.parameters()) for net in (policy.generator, policy.evaluator)) == sizes


@pytest.mark.parametrize("net_arch", [[], [5], [7, 3, 6]], ids=str)
@pytest.mark.parametrize("average_tile_biases", [False, True])
def test_any_policy_shape_learns(net_arch, average_tile_biases, make_model):
    policy_kwargs = {**TINY, "net_arch": net_arch, "average_tile_biases": average_tile_biases, "activation_fn": th.nn.ReLU}
    model = make_model(policy_kwargs=policy_kwargs).learn(10)
    assert model.predict(OBSERVATIONS)[0].shape == (3, 1)


def test_optimizer_arguments(make_model):
    policy_kwargs = dict(TINY, optimizer_class=th.optim.SGD, optimizer_kwargs=dict(momentum=0.5))
    model = make_model(policy_kwargs=policy_kwargs).learn(10)
    assert all(isinstance(optimizer, th.optim.SGD) for optimizer in optimizers_of(model))
    assert optimizers_of(model)[0].defaults["momentum"] == 0.5


# ---------------------------------------------------------------- the loop


def test_episodes_are_finished(make_model):
    model = make_model(ConstantObs(length=7)).learn(15)
    assert model.num_timesteps == 21
    assert len(model.replay_buffer) == 3


def test_buffer_holds_what_the_candidates_did(make_model):
    """Return and noisy policy belong together: acting again with the stored weights earns the stored return."""
    model = make_model(ConstantObs(), normalize_observations=False, policy_kwargs=dict(TINY, net_arch=[])).learn(15)
    buffer = model.replay_buffer
    for weights, episode_return in zip(buffer.policy_weights[: len(buffer)], buffer.stored_returns, strict=True):
        assert episode_return == pytest.approx(3 * np.tanh(float(weights.sum())), abs=1e-5)


def test_first_command_then_a_bit_more_than_the_best(make_model):
    model = make_model(
        ConstantObs(), first_command=0.5, command_increment=0.25, command_increment_std=2.0, weight_noise_std=3.0
    )
    assert model.next_commands(2).tolist() == [0.5, 0.5]
    model.learn(12)
    returns = model.replay_buffer.stored_returns
    assert len(returns) == 4
    assert model.best_return == returns.max()
    scale = model.policy.return_scaler.scale.item()
    assert scale == pytest.approx(max(returns.std(), (returns.max() - returns.mean()) / 3))
    np.testing.assert_allclose(model.next_commands(3), [returns.max() + 0.25 + 2 * scale] * 3)
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


@pytest.mark.parametrize(
    ("train_freq", "n_rounds"),
    [((1, "episode"), 6), ((2, "episode"), 3), ((4, "episode"), 1), (1, 18), (3, 6), ((5, "step"), 3), (19, 0)],
)
def test_train_freq(train_freq, n_rounds, make_model):
    """Six episodes of three steps; what falls due inside an episode is made up for after it."""
    model = make_model(ConstantObs(length=3), train_freq=train_freq).learn(18)
    assert model._n_updates == n_rounds
    steps = [next(iter(optimizer.state.values()), {"step": 0})["step"] for optimizer in optimizers_of(model)]
    assert steps == [2 * n_rounds, 2 * n_rounds]


def test_noise_follows_the_fan_in(make_model):
    kwargs = dict(policy_kwargs=dict(TINY, net_arch=[100]), n_candidates=200, weight_noise_std=0.5)
    for scaling, expected in [("fan_in", [0.5 / 2**0.5, 0.5 / 100**0.5]), ("none", [0.5, 0.5])]:
        model = make_model(weight_noise_scaling=scaling, **kwargs)
        candidates = model.propose_candidates()
        noise = candidates.policy_weights - model.policy.generate_weights(candidates.commands)
        stds = [layer.weight.std().item() for layer in model.policy.layout.split(noise)]
        np.testing.assert_allclose(stds, expected, rtol=0.05)
        assert len(set(candidates.seeds)) == 200


def test_every_candidate_has_its_own_noise_and_seed(make_model):
    """Within an iteration and between iterations."""
    model = make_model(n_candidates=3, weight_noise_std=1.0)
    noise, seeds = [], []
    for _ in range(2):
        candidates = model.propose_candidates()
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
    candidates = model.propose_candidates()
    assert th.equal(candidates.policy_weights, model.policy.generate_weights(candidates.commands))


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


def test_alive_bonus_offset_changes_stored_returns_only(make_model):
    """Episodes of three steps with reward 1."""
    env = Spaces(spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,)))
    model = make_model(env, alive_bonus_offset=-1.5)
    recorder = record_logs(model)
    model.learn(12, log_interval=1)
    assert model.replay_buffer.stored_returns.tolist() == [-1.5] * 4
    assert model.best_return == -1.5
    assert recorder.entries[-1][1]["rollout/ep_rew_mean"] == 3
    assert recorder.entries[-1][1]["train/best_return"] == -1.5
    assert model.evaluate_commands([0.0], n_eval_episodes=2).mean_returns.tolist() == [-1.5]


def test_observation_statistics_are_those_of_the_observations_acted_on(make_model):
    model = make_model(normalize_observations=True).learn(30)
    assert model.policy.normalizer.count.item() == model.num_timesteps
    assert make_model(normalize_observations=False).learn(30).policy.normalizer.count.item() == 0


def test_an_episode_with_a_reward_that_is_not_finite_is_dropped(make_model):
    class Broken(ConstantObs):
        def reward(self, action):
            return np.nan

    model = make_model(Broken())
    before = parameters_of(model)
    with pytest.warns(UserWarning, match=r"an episode was dropped: its return \(nan\)"):
        model.learn(10)
    assert len(model.replay_buffer) == 0
    assert model.best_return is None
    assert th.equal(parameters_of(model), before)


def test_an_observation_that_is_not_finite_never_reaches_weights_or_statistics(make_model):
    class Broken(ConstantObs):
        n_resets = 0

        def reset(self, **kwargs):
            self.n_resets += 1
            observation, info = super().reset(**kwargs)
            return (observation * np.nan if self.n_resets == 6 else observation), info

        def reward(self, action):
            return 1.0

    model = make_model(Broken())
    with pytest.warns(UserWarning, match="an episode was dropped"):
        model.learn(60)
    assert th.isfinite(parameters_of(model)).all()
    assert np.isfinite(model.predict(np.ones(1, np.float32))[0]).all()


# ---------------------------------------------------------------- seeds and numbers of envs


def test_same_seed_same_result(make_model):
    one = make_model(seed=7).learn(60)
    np.random.seed(5)
    th.manual_seed(5)
    assert_same_result(one, make_model(seed=7).learn(60))
    assert not th.equal(parameters_of(one), parameters_of(make_model(seed=8).learn(60)))


def test_unseeded_runs_differ(make_model):
    assert not th.equal(*(make_model(seed=None).learn(10).replay_buffer.policy_weights[0] for _ in range(2)))


def test_the_result_does_not_depend_on_the_number_of_envs(make_model):
    def train(n_envs, vec_env_cls=DummyVecEnv):
        env = make_vec_env(Seeded, n_envs, vec_env_cls=vec_env_cls)
        model = make_model(env, n_candidates=4).learn(80)
        env.close()
        return model

    expected = train(1)
    assert expected._n_updates > 0
    for model in (train(2), train(5), train(2, SubprocVecEnv)):
        assert_same_result(expected, model)
        assert sorted(info["r"] for info in model.ep_info_buffer) == sorted(info["r"] for info in expected.ep_info_buffer)


def test_as_many_candidates_as_envs(make_model):
    model = make_model(make_vec_env(ConstantObs, 3))
    assert len(model.propose_candidates().commands) == 3
    assert model.learn(10).num_timesteps == 18


def test_vec_normalize_leaves_the_learned_returns_raw(make_model):
    env = VecNormalize(make_vec_env(ConstantObs, 2), norm_obs=True, norm_reward=True)
    model = make_model(env).learn(18)
    assert model.get_vec_normalize_env() is env
    raw = sorted(info["r"] for info in model.ep_info_buffer)
    np.testing.assert_allclose(sorted(model.replay_buffer.stored_returns), raw, atol=1e-5)
    assert np.ptp(raw) > 0.01


# ---------------------------------------------------------------- callbacks


class Counter(BaseCallback):
    """Counts its calls; stops after ``stop_after`` steps."""

    def __init__(self, stop_after=None):
        super().__init__()
        self.stop_after, self.events, self.timesteps = stop_after, [], []

    def _on_training_start(self):
        self.events.append("training_start")

    def _on_rollout_start(self):
        self.events.append("rollout_start")

    def _on_step(self):
        self.timesteps.append(self.num_timesteps)
        return self.stop_after is None or self.n_calls < self.stop_after

    def _on_rollout_end(self):
        self.events.append("rollout_end")

    def _on_training_end(self):
        self.events.append("training_end")


def test_on_step_is_called_for_each_env_step(make_model):
    callback = Counter()
    model = make_model(ConstantObs(length=3)).learn(6, callback)
    assert callback.timesteps == [1, 2, 3, 4, 5, 6]
    assert callback.n_calls == model.num_timesteps == 6
    assert callback.events == ["training_start", *["rollout_start", "rollout_end"] * 2, "training_end"]


def test_on_step_is_called_once_for_all_envs(make_model):
    callback = Counter()
    make_model(make_vec_env(ConstantObs, 3)).learn(9, callback)
    assert callback.timesteps == [3, 6, 9]
    callback = Counter()
    make_model(make_vec_env(ConstantObs, 3), n_candidates=4).learn(9, callback)  # the fourth runs alone
    assert callback.timesteps == [3, 6, 9, 10, 11, 12]


def test_false_from_on_step_stops_at_once(make_model):
    callback = Counter(stop_after=4)
    model = make_model(ConstantObs(length=3)).learn(100, callback)
    assert model.num_timesteps == callback.n_calls == 4
    assert len(model.replay_buffer) == 1
    assert callback.events[-1] == "training_end"


def test_learning_goes_on_after_a_stop(make_model):
    model = make_model(ConstantObs(length=3)).learn(100, Counter(stop_after=4))
    model.learn(6, reset_num_timesteps=False)
    assert model.num_timesteps == 10
    assert model.replay_buffer.stored_returns.shape == (3,)
    assert [info["l"] for info in model.ep_info_buffer] == [3, 3, 3]


def test_function_as_callback(make_model):
    calls = []
    make_model(ConstantObs(length=3)).learn(3, lambda local, _: calls.append(len(local["infos"])) or True)
    assert calls == [1, 1, 1]


def test_stop_on_max_episodes(make_model):
    model = make_model(ConstantObs(length=3)).learn(1000, StopTrainingOnMaxEpisodes(max_episodes=5))
    assert model.num_timesteps == 15


def test_eval_callback_and_reward_threshold(make_model, tmp_path):
    """With threshold -10 the first evaluation stops the training, and leaves the best model."""
    callback = EvalCallback(
        Monitor(ConstantObs()),
        callback_on_new_best=StopTrainingOnRewardThreshold(-10),
        eval_freq=4,
        n_eval_episodes=2,
        best_model_save_path=str(tmp_path),
        log_path=str(tmp_path),
        verbose=0,
    )
    model = make_model(ConstantObs()).learn(1000, callback)
    assert model.num_timesteps == 4
    assert GoGePo.load(tmp_path / "best_model").predict(np.ones(1))[0] == pytest.approx(model.predict(np.ones(1))[0])
    assert np.load(tmp_path / "evaluations.npz")["results"].shape == (1, 2)
    assert callback.last_mean_reward == pytest.approx(3 * model.predict(np.ones(1, np.float32))[0][0], abs=1e-5)


def test_eval_callback_syncs_vec_normalize(make_model):
    env = VecNormalize(make_vec_env(Seeded, 2))
    eval_env = VecNormalize(make_vec_env(Seeded, 1), training=False, norm_reward=False)
    model = make_model(env).learn(40, EvalCallback(eval_env, eval_freq=5, n_eval_episodes=1, verbose=0))
    assert eval_env.obs_rms.count > 1
    assert model.num_timesteps >= 40


def test_checkpoint_callback_with_buffer(make_model, tmp_path):
    callback = CheckpointCallback(6, str(tmp_path), save_replay_buffer=True)
    model = make_model(ConstantObs(length=3)).learn(12, callback)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "rl_model_12_steps.zip",
        "rl_model_6_steps.zip",
        "rl_model_replay_buffer_12_steps.pkl",
        "rl_model_replay_buffer_6_steps.pkl",
    ]
    loaded = GoGePo.load(tmp_path / "rl_model_6_steps", env=ConstantObs(length=3))
    loaded.load_replay_buffer(tmp_path / "rl_model_replay_buffer_6_steps.pkl")
    assert loaded.num_timesteps == 6
    assert np.array_equal(loaded.replay_buffer.stored_returns, model.replay_buffer.stored_returns[:1])  # taken mid-iteration
    loaded.learn(6, reset_num_timesteps=False)


@pytest.mark.parametrize(
    "kwargs", [dict(progress_bar=True), dict(callback=ProgressBarCallback())], ids=["argument", "callback"]
)
@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
def test_progress_bar(kwargs, make_model):
    assert make_model(ConstantObs(length=3)).learn(9, **kwargs).num_timesteps == 9


# ---------------------------------------------------------------- logging

KEYS = {
    "rollout/ep_rew_mean",
    "rollout/ep_len_mean",
    "time/fps",
    "time/total_timesteps",
    "train/evaluator_loss",
    "train/generator_loss",
    "train/command",
    "train/best_return",
    "train/learning_rate",
}


def test_logger_keys(make_model):
    model = make_model(ConstantObs(length=3))
    recorder = record_logs(model)
    model.learn(18, log_interval=2)
    assert recorder.entries
    step, values = recorder.entries[-1]
    assert values.keys() >= KEYS
    assert step == values["time/total_timesteps"] <= model.num_timesteps
    assert values["rollout/ep_len_mean"] == 3
    assert values["rollout/ep_rew_mean"] == pytest.approx(np.mean(model.replay_buffer.stored_returns[: step // 3]), abs=1e-5)
    assert values["train/best_return"] == model.replay_buffer.stored_returns[: step // 3].max()
    assert all(np.isfinite(value) for value in values.values())


@pytest.mark.parametrize(("log_interval", "n_entries"), [(1, 6), (2, 3), (3, 2), (100, 1), (None, 0)])
def test_log_interval_counts_episodes(log_interval, n_entries, make_model):
    """Six episodes; the first is always logged."""
    model = make_model(ConstantObs(length=3))
    recorder = record_logs(model)
    model.learn(18, log_interval=log_interval)
    assert len(recorder.entries) == n_entries


def test_stats_window_size(make_model):
    assert len(make_model(ConstantObs(length=1), stats_window_size=3).learn(10).ep_info_buffer) == 3


def test_success_rate(make_model):
    class Successful(ConstantObs):
        def step(self, action):
            observation, reward, terminated, truncated, info = super().step(action)
            return observation, reward, terminated, truncated, {**info, **({"is_success": True} if terminated else {})}

    model = make_model(Successful())
    recorder = record_logs(model)
    model.learn(3, log_interval=1)
    assert recorder.entries[-1][1]["rollout/success_rate"] == 1.0


def test_tensorboard(make_model, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_model(ConstantObs(length=3), tensorboard_log=str(tmp_path)).learn(12, log_interval=1)
    (folder,) = tmp_path.iterdir()
    assert folder.name == "GoGePo_1"
    events = EventAccumulator(str(folder))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= KEYS - {"time/total_timesteps"}
    assert [event.step for event in events.Scalars("rollout/ep_rew_mean")] == [3, 6, 9, 12]


def test_verbose_prints_a_table(make_model, capsys):
    make_model(ConstantObs(length=3), verbose=1).learn(6, log_interval=1)
    out = capsys.readouterr().out
    for word in ("ep_rew_mean", "best_return", "generator_loss"):
        assert word in out


# ---------------------------------------------------------------- learn again


def test_reset_num_timesteps(make_model):
    model = make_model(ConstantObs(length=3)).learn(6)
    assert model.learn(6, reset_num_timesteps=False).num_timesteps == 12
    assert model.learn(6).num_timesteps == 6
    assert len(model.replay_buffer) == 6  # what was learned is kept


def test_learning_in_parts_equals_learning_at_once(make_model):
    """Every episode is three steps long, so both stop at the same points."""
    parts = make_model(ConstantObs(length=3)).learn(12)
    parts.learn(12, reset_num_timesteps=False)
    assert_same_result(parts, make_model(ConstantObs(length=3)).learn(24))


def test_set_env(make_model):
    model = make_model(ConstantObs(length=3)).learn(3)
    model.set_env(ConstantObs(length=5))
    assert model.learn(5, reset_num_timesteps=False).num_timesteps == 8
    with pytest.raises(ValueError, match="spaces do not match"):
        model.set_env(Seeded())


def test_get_and_set_parameters(make_model):
    one, two = make_model(seed=1).learn(30), make_model(seed=2)
    parameters = one.get_parameters()
    assert set(parameters) == {"policy", "policy.generator_optimizer", "policy.evaluator_optimizer"}
    assert not np.allclose(one.predict(OBSERVATIONS)[0], two.predict(OBSERVATIONS)[0])
    two.set_parameters(parameters)
    assert np.array_equal(one.predict(OBSERVATIONS)[0], two.predict(OBSERVATIONS)[0])
    assert two.command == one.command
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        two.set_parameters({"policy": parameters["policy"]})


# ---------------------------------------------------------------- acting


def test_predict_one_and_many(make_model):
    model = make_model().learn(30)
    actions, state = model.predict(OBSERVATIONS)
    assert actions.shape == (3, 1)
    assert state is None
    for observation, action in zip(OBSERVATIONS, actions, strict=True):
        single = model.predict(observation)[0]
        assert single.shape == (1,)
        np.testing.assert_allclose(single, action, rtol=1e-5, atol=1e-6)


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


def test_predict_normalizes_observations(make_model):
    """By hand: scaled command, generated weights, normalized observation."""
    model = make_model(policy_kwargs=dict(TINY, net_arch=[])).learn(30)
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


def test_discrete_env(tiny):
    model = GoGePo("CartPole-v1", **tiny).learn(100)
    actions = model.predict(np.zeros((4, 4), np.float32))[0]
    assert actions.shape == (4,)
    assert set(actions) <= {0, 1}
    assert int(model.predict(np.zeros(4, np.float32))[0]) in (0, 1)
    mean, _ = evaluate_policy(model, gym.make("CartPole-v1"), n_eval_episodes=2, warn=False)
    assert mean >= 1


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCarContinuous-v0"])
def test_generated_policy_acts_as_the_model_does(env_id, tiny, tmp_path):
    model = GoGePo(env_id, **tiny).learn(20)
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
    exported = th.export.export(policy, (observations,), dynamic_shapes=({0: th.export.Dim.DYNAMIC},)).module()
    other = th.cat([observations, 0.3 * observations])
    th.testing.assert_close(exported(other), policy(other))


def test_policy_save_and_load(make_model, tmp_path):
    model = make_model().learn(20)
    model.policy.save(tmp_path / "policy")
    policy = type(model.policy).load(tmp_path / "policy")
    assert policy.command == model.command
    assert np.array_equal(policy.predict(OBSERVATIONS)[0], model.predict(OBSERVATIONS)[0])


def test_evaluate_policy_on_the_model(make_model):
    model = make_model(ConstantObs()).learn(9)
    mean, std = evaluate_policy(model, Monitor(ConstantObs()), n_eval_episodes=3)
    assert mean == pytest.approx(3 * model.predict(np.ones(1, np.float32))[0][0], abs=1e-5)
    assert std == pytest.approx(0, abs=1e-6)


# ---------------------------------------------------------------- command sweeps


def test_evaluate_commands_by_hand(make_model):
    model = make_model(make_vec_env(ConstantObs, 2)).learn(18)
    sweep = model.evaluate_commands([-1.0, 0.5, 2.0], n_eval_episodes=3)
    expected = [3 * model.generate_policy(command).predict(np.ones(1, np.float32))[0][0] for command in (-1.0, 0.5, 2.0)]
    np.testing.assert_allclose(sweep.mean_returns, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sweep.std_returns, 0, atol=1e-6)
    assert sweep.commands.tolist() == [-1.0, 0.5, 2.0]
    assert sweep.mean_lengths.tolist() == [3, 3, 3]


def test_evaluate_commands_statistics(make_model):
    """Mean and standard deviation over episodes reset with seed, seed + 1, ..., on any number of envs."""
    model = make_model().learn(20)
    singles = [model.evaluate_commands([1.0], n_eval_episodes=1, seed=5 + k) for k in range(4)]
    for n_envs in (1, 3):
        sweep = model.evaluate_commands([1.0, 1.0], n_eval_episodes=4, env=make_vec_env(Seeded, n_envs), seed=5)
        returns = np.array([single.mean_returns[0] for single in singles])
        np.testing.assert_allclose(sweep.mean_returns, [returns.mean()] * 2)
        np.testing.assert_allclose(sweep.std_returns, [returns.std()] * 2)
        np.testing.assert_allclose(sweep.mean_lengths, [np.mean([single.mean_lengths[0] for single in singles])] * 2)


def test_evaluate_commands_does_not_change_the_training(make_model):
    one, two = make_model(), make_model()
    for model in (one, two):
        model.learn(30)
        if model is two:
            model.evaluate_commands(np.linspace(-1, 1, 3), n_eval_episodes=2)
        model.learn(30, reset_num_timesteps=False)
    assert_same_result(one, two)
    assert [info["r"] for info in one.ep_info_buffer] == [info["r"] for info in two.ep_info_buffer]


def test_evaluate_commands_leaves_vec_normalize_alone(make_model):
    env = VecNormalize(make_vec_env(Seeded, 2))
    model = make_model(env).learn(20)
    mean, count = env.obs_rms.mean.copy(), env.obs_rms.count
    model.evaluate_commands([1.0], n_eval_episodes=3)
    assert env.training
    assert env.obs_rms.count == count
    assert np.array_equal(env.obs_rms.mean, mean)


def test_predicted_returns(make_model):
    """V(G(c)) in return units, by hand."""
    model = make_model().learn(30)
    predicted = model.policy.predict_returns([0.0, 1.0])
    with th.no_grad():
        layers = model.policy.layout.split(model.policy.generate_weights([0.0, 1.0]))
        scaled = model.policy.evaluator(layers).double()
    expected = scaled * model.policy.return_scaler.scale + model.policy.return_scaler.offset
    np.testing.assert_allclose(predicted, expected.numpy(), rtol=1e-5, atol=1e-6)
