"""What every algorithm does: construction, the loop, seeds, callbacks, logs, acting, sweeps."""

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
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sb3_gogepo.errors import DiscardedEpisodeWarning
from tests.helpers import OBSERVATIONS, act, assert_same_result, optimizers_of, parameters_of, record_logs
from tests.toy_envs import ConstantObs, Seeded, Spaces

# ---------------------------------------------------------------- construction and spelling


def test_env_id_alone(tiny, algorithm):
    model = algorithm("InvertedPendulum-v2", **tiny).learn(60.0)
    assert model.num_timesteps >= 60
    assert isinstance(model.num_timesteps, int)


@pytest.mark.parametrize(
    "args",
    [(Seeded(),), ("MlpPolicy", Seeded()), ("MlpPolicy", make_vec_env(Seeded, 2)), (make_vec_env(Seeded, 2),)],
    ids=["env", "alias and env", "alias and VecEnv", "VecEnv"],
)
def test_env_objects(args, tiny, algorithm):
    model = algorithm(*args, **tiny).learn(20)
    assert model.observation_space == Seeded().observation_space
    assert model.num_timesteps >= 20


def test_policy_class_as_argument(tiny, algorithm):
    model = algorithm(algorithm.policy_aliases["MlpPolicy"], Seeded(), **tiny)
    assert type(model.policy) is algorithm.policy_aliases["MlpPolicy"]


def test_default_arguments_learn(algorithm):
    assert algorithm(Seeded()).learn(20).num_timesteps >= 20


def test_optimizer_arguments(make_model, tiny):
    policy_kwargs = dict(tiny["policy_kwargs"], optimizer_class=th.optim.SGD, optimizer_kwargs=dict(momentum=0.5))
    model = make_model(policy_kwargs=policy_kwargs).learn(10)
    assert all(isinstance(optimizer, th.optim.SGD) for optimizer in optimizers_of(model))
    assert optimizers_of(model)[0].defaults["momentum"] == 0.5


# ---------------------------------------------------------------- the loop


def test_episodes_are_finished(make_model):
    model = make_model(ConstantObs(length=7)).learn(15)
    assert model.num_timesteps == 21
    assert len(model.replay_buffer) == 3


@pytest.mark.parametrize(
    ("train_freq", "n_rounds"),
    [((1, "episode"), 6), ((2, "episode"), 3), ((4, "episode"), 1), (1, 18), (3, 6), ((5, "step"), 3), (19, 0)],
)
def test_train_freq(train_freq, n_rounds, make_model):
    """Six episodes of three steps; what falls due inside an episode is made up for after it."""
    model = make_model(ConstantObs(length=3), train_freq=train_freq).learn(18)
    assert model._n_updates == n_rounds
    steps = [next(iter(optimizer.state.values()), {"step": 0})["step"] for optimizer in optimizers_of(model)]
    assert {int(count) for count in steps} == {2 * n_rounds}


def test_alive_bonus_offset_changes_stored_returns_only(make_model):
    """Episodes of three steps with reward 1."""
    env = Spaces(spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,)))
    model = make_model(env, alive_bonus_offset=-1.5)
    recorder = record_logs(model)
    model.learn(12, log_interval=1)
    assert set(model.replay_buffer.stored_returns) == {-1.5}
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
    with pytest.warns(DiscardedEpisodeWarning, match="reward nan at step 1"):
        model.learn(10)
    assert len(model.replay_buffer) == 0
    assert model.best_return is None
    assert th.equal(parameters_of(model), before)


# ---------------------------------------------------------------- seeds and numbers of envs


def test_same_seed_same_result(make_model):
    one = make_model(seed=7).learn(60)
    np.random.seed(5)
    th.manual_seed(5)
    assert_same_result(one, make_model(seed=7).learn(60))
    assert not th.equal(parameters_of(one), parameters_of(make_model(seed=8).learn(60)))


def test_unseeded_runs_differ(make_model):
    assert not th.equal(*(parameters_of(make_model(seed=None).learn(10)) for _ in range(2)))


def test_a_seed_set_later_is_as_good(make_model):
    def train(seed):
        model = make_model(seed=1)  # the same initial weights
        model.set_random_seed(seed)
        return model.learn(60)

    one = train(7)
    th.manual_seed(5)
    assert_same_result(one, train(7))
    assert_same_result(train(None), make_model(seed=1).learn(60))
    with pytest.raises(ValueError, match="seed must be an integer >= 0, got -1"):
        one.set_random_seed(-1)
    assert not th.equal(parameters_of(one), parameters_of(train(8)))


class Float64(Seeded):
    """Gives observations that its space does not promise."""

    def _observation(self):
        return np.array([self.start, self.t]) / 3


@pytest.mark.parametrize("env_class", [Seeded, Float64])
def test_the_result_does_not_depend_on_the_number_of_envs(env_class, make_model):
    def train(n_envs, vec_env_cls=DummyVecEnv):
        env = make_vec_env(env_class, n_envs, vec_env_cls=vec_env_cls)
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
    assert len(model.propose_candidates(3).commands) == 3
    assert model.learn(10).num_timesteps == 18
    assert len(model.replay_buffer) == 6


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


def test_on_step_is_called_as_often_as_with_sb3s_algorithms(make_model):
    """Once every n_envs env steps, also where some envs wait."""
    callback = Counter()
    make_model(make_vec_env(ConstantObs, 3)).learn(9, callback)
    assert callback.timesteps == [3, 6, 9]
    callback = Counter()
    make_model(make_vec_env(ConstantObs, 3), n_candidates=4).learn(9, callback)  # the fourth runs alone
    assert callback.timesteps == [3, 6, 9, 12]


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


def test_a_rollout_that_a_callback_stops_has_no_end(make_model):
    class Stop(BaseCallback):
        ends = 0

        def _on_step(self):
            return self.n_calls < 5

        def _on_rollout_end(self):
            self.ends += 1

    callback = Stop()
    make_model(ConstantObs(length=3)).learn(100, callback)
    assert callback.ends == 1


def test_stop_on_max_episodes(make_model):
    model = make_model(ConstantObs(length=3)).learn(1000, StopTrainingOnMaxEpisodes(max_episodes=5))
    assert model.num_timesteps == 15


def test_eval_callback_and_reward_threshold(make_model, tmp_path, algorithm):
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
    assert act(algorithm.load(tmp_path / "best_model"), np.ones(1)) == pytest.approx(act(model, np.ones(1)))
    assert np.load(tmp_path / "evaluations.npz")["results"].shape == (1, 2)
    assert callback.last_mean_reward == pytest.approx(np.load(tmp_path / "evaluations.npz")["results"].mean())


def test_eval_callback_syncs_vec_normalize(make_model):
    env = VecNormalize(make_vec_env(Seeded, 2))
    eval_env = VecNormalize(make_vec_env(Seeded, 1), training=False, norm_reward=False)
    model = make_model(env).learn(40, EvalCallback(eval_env, eval_freq=5, n_eval_episodes=1, verbose=0))
    assert eval_env.obs_rms.count > 1
    assert model.num_timesteps >= 40


def test_checkpoint_callback_with_buffer(make_model, tmp_path, algorithm):
    callback = CheckpointCallback(6, str(tmp_path), save_replay_buffer=True)
    model = make_model(ConstantObs(length=3)).learn(12, callback)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "rl_model_12_steps.zip",
        "rl_model_6_steps.zip",
        "rl_model_replay_buffer_12_steps.pkl",
        "rl_model_replay_buffer_6_steps.pkl",
    ]
    loaded = algorithm.load(tmp_path / "rl_model_6_steps", env=ConstantObs(length=3))
    loaded.load_replay_buffer(tmp_path / "rl_model_replay_buffer_6_steps.pkl")
    assert loaded.num_timesteps == 3  # the last iteration that was complete when the callback saved
    assert np.array_equal(loaded.replay_buffer.stored_returns, model.replay_buffer.stored_returns[:1])  # taken mid-iteration
    loaded.learn(6, reset_num_timesteps=False)


def test_a_schedule_does_not_become_negative_when_the_last_episode_runs_over(make_model):
    model = make_model(ConstantObs(length=8), learning_rate=lambda progress_remaining: 0.01 * progress_remaining)
    model.learn(50)
    assert model.num_timesteps > 50
    assert model._current_progress_remaining == 0
    assert model.lr_schedule(model._current_progress_remaining) == 0


@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("callback", [None, [], lambda *_: True], ids=["none", "list", "function"])
def test_the_progress_bar_shows_the_steps_that_count(n_envs, callback, make_model, monkeypatch):
    shown = []

    def close(bar, close=ProgressBarCallback._on_training_end):
        shown.append((bar.pbar.n, bar.pbar.total))
        close(bar)

    monkeypatch.setattr(ProgressBarCallback, "_on_training_end", close)
    model = make_model(make_vec_env(Seeded, n_envs), n_candidates=4)  # episodes of different lengths: some envs wait
    model.learn(40, progress_bar=True, callback=callback)
    before = model.num_timesteps
    model.learn(40, progress_bar=True, callback=callback, reset_num_timesteps=False)
    assert shown == [(before, 40), (model.num_timesteps - before, 40)]


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
    assert values["rollout/ep_rew_mean"] == pytest.approx(
        np.mean([info["r"] for info in model.ep_info_buffer][: step // 3]), abs=1e-5
    )
    returns = [info["r"] for info in model.ep_info_buffer][: step // 3]
    assert values["train/best_return"] == pytest.approx(max(returns), abs=1e-5)
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


def test_tensorboard(make_model, tmp_path, algorithm):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_model(ConstantObs(length=3), tensorboard_log=str(tmp_path)).learn(12, log_interval=1)
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"{algorithm.__name__}_1"
    events = EventAccumulator(str(folder))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= KEYS - {"time/total_timesteps"}
    assert [event.step for event in events.Scalars("rollout/ep_rew_mean")] == [3, 6, 9, 12]


def test_verbose_prints_a_table(make_model, capsys):
    make_model(ConstantObs(length=3), verbose=1).learn(6, log_interval=1)
    out = capsys.readouterr().out
    for word in ("ep_rew_mean", "best_return", "loss"):
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
    assert set(parameters) == {"policy", *(f"policy.{name}" for name in one.policy.optimizer_names)}
    assert not np.allclose(act(one, OBSERVATIONS), act(two, OBSERVATIONS))
    two.set_parameters(parameters)
    assert np.array_equal(act(one, OBSERVATIONS), act(two, OBSERVATIONS))
    assert two.command == one.command
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        two.set_parameters({"policy": parameters["policy"]})


# ---------------------------------------------------------------- acting


def test_predict_one_and_many(make_model):
    model = make_model().learn(30)
    actions, _ = model.predict(OBSERVATIONS, deterministic=True)
    assert actions.shape == (3, 1)
    for observation, action in zip(OBSERVATIONS, actions, strict=True):
        single = act(model, observation)
        assert single.shape == (1,)
        np.testing.assert_allclose(single, action, rtol=1e-5, atol=1e-6)


def test_predict_wants_no_tuple(make_model):
    with pytest.raises(ValueError, match="tuple"):
        make_model().predict((OBSERVATIONS[0], {}))


def test_discrete_env(tiny, algorithm):
    model = algorithm("CartPole-v1", **tiny).learn(100)
    actions = act(model, np.zeros((4, 4), np.float32))
    assert actions.shape == (4,)
    assert isinstance(act(model, np.zeros(4, np.float32)), np.ndarray)
    assert set(actions) <= {0, 1}
    assert int(act(model, np.zeros(4, np.float32))) in (0, 1)
    mean, _ = evaluate_policy(model, gym.make("CartPole-v1"), n_eval_episodes=2, warn=False)
    assert mean >= 1


def test_policy_save_and_load(make_model, tmp_path):
    model = make_model().learn(20)
    model.policy.save(tmp_path / "policy")
    policy = type(model.policy).load(tmp_path / "policy")
    assert policy.command == model.command
    assert np.array_equal(act(policy, OBSERVATIONS), act(model, OBSERVATIONS))


# ---------------------------------------------------------------- command sweeps


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


def test_evaluate_commands_needs_an_env_of_its_own_in_the_midst_of_episodes(make_model):
    model = make_model()

    def on_step(seen, _):
        other = seen["self"]
        assert len(other.evaluate_commands([1.0], n_eval_episodes=2, env=Seeded()).mean_returns) == 1
        with pytest.raises(ValueError, match="env must be another one in on_step"):
            other.evaluate_commands([1.0], n_eval_episodes=2)
        return False

    model.learn(20, callback=on_step)
    assert len(model.evaluate_commands([1.0], n_eval_episodes=2).mean_returns) == 1


def test_evaluate_commands_leaves_vec_normalize_alone(make_model):
    env = VecNormalize(make_vec_env(Seeded, 2))
    model = make_model(env).learn(20)
    mean, count = env.obs_rms.mean.copy(), env.obs_rms.count
    model.evaluate_commands([1.0], n_eval_episodes=3)
    assert env.training
    assert env.obs_rms.count == count
    assert np.array_equal(env.obs_rms.mean, mean)
