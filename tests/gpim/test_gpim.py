"""The algorithm: what it learns from, SB3's interface, files, wrong arguments."""

import io
import json
import warnings
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback, ProgressBarCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize

from sb3_gogepo import GPIM
from sb3_gogepo.errors import DiscardedEpisodeWarning
from sb3_gogepo.gpim import GoalWrapper
from tests.helpers import parameters_of, record_logs
from tests.toy_envs import Seeded, Spaces

from .conftest import KINDS, SMALL, TINY, make_env


def assert_same_result(one, two):
    assert th.equal(parameters_of(one), parameters_of(two))
    for name in ("num_timesteps", "skill_timesteps", "goal_timesteps", "_iteration_num", "_n_updates"):
        assert getattr(one, name) == getattr(two, name), name
    for pair in ("skill", "goal"):
        states = [getattr(model.replay_buffer, pair).state_dict() for model in (one, two)]
        assert states[0]["rng"] == states[1]["rng"]
        assert th.equal(states[0]["latents"], states[1]["latents"])
        for key, values in states[0]["observations"].items():
            assert th.equal(values, states[1]["observations"][key])


# ---------------------------------------------------------------- what it learns from


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_goal_trains_every_network(kind, make_model):
    env_arguments, arguments = KINDS[kind]
    model = make_model(make_env(**env_arguments), **arguments)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(80)
    assert model.num_timesteps == model.skill_timesteps + model.goal_timesteps == 80
    for part in ("skill_policy.actor", "skill_policy.critic", "goal_policy.actor", "goal_policy.critic", "discriminator.mlp"):
        assert any(not th.equal(value, before[name]) for name, value in model.policy.state_dict().items() if part in name)


class Rewarded(gym.RewardWrapper):
    def reward(self, reward):
        return 1e6 - 3 * reward


def test_the_envs_reward_changes_nothing(make_model):
    assert_same_result(make_model(make_env()).learn(100), make_model(Rewarded(make_env())).learn(100))


class OtherGoals(gym.ObservationWrapper):
    def observation(self, observation):
        return {**observation, "desired_goal": np.ones_like(observation["desired_goal"])}


def test_the_envs_goals_change_nothing(make_model):
    assert_same_result(make_model(make_env()).learn(100), make_model(OtherGoals(make_env())).learn(100))


def test_the_goal_policy_is_asked_for_what_the_skill_reached(make_model):
    model = make_model(buffer_size=200).learn(100)
    skill, goal = model.replay_buffer.skill, model.replay_buffer.goal
    ends = skill.next_observations["observation"][9:50:10, 0]
    assert len(skill) == len(goal) == 50
    assert np.array_equal(goal.observations["desired_goal"][:50, 0], np.repeat(ends, 10, axis=0))
    assert np.array_equal(goal.latents[:50], skill.latents[:50])
    assert np.array_equal(skill.observations["latent"][:50].ravel(), skill.latents[:50])
    assert not goal.dones[goal.timeouts == 0].any()  # the time limit alone ends these episodes


def test_the_reward_is_that_of_the_present_discriminator(make_model):
    model = make_model(infer_latents=False).learn(60)
    for buffer in (model.replay_buffer.skill, model.replay_buffer.goal):
        buffer.rng = np.random.default_rng(3)
        samples = buffer.sample(20)
        latents = buffer.to_torch(buffer.latents[np.random.default_rng(3).integers(len(buffer), size=20)])
        observations = samples.next_observations["observation"]
        log_q = th.log_softmax(model.policy.discriminator(observations), dim=1)[th.arange(20), latents]
        assert th.allclose(samples.rewards[:, 0], log_q + np.log(TINY["n_latents"]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_goal_policys_reward_looks_at_the_state_behind_the_goal(kind, make_model):
    env_arguments, arguments = KINDS[kind]
    model = make_model(make_env(**env_arguments), **arguments, buffer_size=200).learn(60)
    skill, goal = model.replay_buffer.skill, model.replay_buffer.goal
    after = skill.next_observations["observation"][:10, 0]
    indices = {"fixed": [9] * 10, "image": [9] * 10, "dynamic": range(10), "sequence": [4] * 5 + [9] * 5}[kind]
    assert np.array_equal(goal.sources[:10], after[list(indices)])
    goal.rng = np.random.default_rng(3)
    samples = goal.sample(20)
    sources = goal.to_torch(goal.sources[np.random.default_rng(3).integers(len(goal), size=20)])
    expected = model.policy.discriminator.expected_reward(samples.next_observations["observation"], sources)
    assert th.equal(samples.rewards[:, 0], expected)


def test_latents_change_with_the_segments(make_model):
    env = make_env(goal_type="sequence")
    model = make_model(env, goal_type="sequence", segment_length=5, policy_kwargs={**TINY, "n_latents": 1000}).learn(20)
    latents = model.replay_buffer.skill.latents[:10]
    assert len(set(latents[:5])) == len(set(latents[5:])) == 1
    assert latents[0] != latents[5]
    ends = model.replay_buffer.skill.next_observations["observation"][[4, 9], 0, :2]
    assert np.allclose(model.replay_buffer.goal.observations["desired_goal"][:10, 0], ends.ravel())


def test_two_stages(make_model):
    model = make_model(skill_steps=40).learn(40)
    assert (model.skill_timesteps, model.goal_timesteps) == (40, 0)
    frozen = {name: value.clone() for name, value in model.policy.state_dict().items() if "goal_policy" not in name}
    acting = model.policy.goal_policy.actor.mu.weight.clone()
    model.learn(80, reset_num_timesteps=False)
    assert model.goal_timesteps == 40
    assert all(th.equal(value, model.policy.state_dict()[name]) for name, value in frozen.items())
    assert not th.equal(acting, model.policy.goal_policy.actor.mu.weight)


def test_what_is_frozen_stays_so_when_steps_are_counted_anew(make_model):
    model = make_model(skill_steps=40).learn(80)
    frozen = {name: value.clone() for name, value in model.policy.state_dict().items() if "goal_policy" not in name}
    goal_steps = model.goal_timesteps
    model.learn(40)
    assert all(th.equal(value, model.policy.state_dict()[name]) for name, value in frozen.items())
    assert model.goal_timesteps == goal_steps + 20


def test_latents_are_those_that_led_the_skill_policy_to_the_goals(make_model):
    """Two segments of five steps. The last state was reached with the second latent, the middle with the first."""
    fixed = make_model(segment_length=5, seed=1).learn(20).replay_buffer
    reached_with = fixed.skill.latents[9]
    assert reached_with != fixed.skill.latents[0]
    assert (fixed.goal.latents[:10] == reached_with).all()
    env = make_env(goal_type="sequence")
    sequence = make_model(env, goal_type="sequence", segment_length=5).learn(20).replay_buffer
    assert (sequence.goal.latents[:10] == sequence.skill.latents[:10]).all()


def test_random_actions_and_no_training_first(make_model):
    model = make_model(learning_starts=1000)
    before = parameters_of(model)
    assert th.equal(parameters_of(model.learn(60)), before)
    assert len(model.replay_buffer.skill) == 30


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nothing_that_is_not_finite_is_stored(value, make_model):
    class Broken(gym.ObservationWrapper):
        def observation(self, observation):
            return {**observation, "observation": np.full_like(observation["observation"], value, dtype=np.float64)}

    model = make_model(Broken(make_env()), learning_starts=0)
    with pytest.warns(DiscardedEpisodeWarning, match="an episode is discarded: an observation, .* is not finite"):
        model.learn(40)
    assert len(model.replay_buffer) == 0


# ---------------------------------------------------------------- SB3's interface


@pytest.mark.parametrize("make_vec", [dict(n_envs=1), dict(n_envs=3), dict(n_envs=2, vec_env_cls=SubprocVecEnv)])
def test_vec_envs(make_vec, make_model):
    model = make_model(make_vec_env(make_env, **make_vec)).learn(90)
    assert model.num_timesteps >= 90
    assert model.num_timesteps % (20 * make_vec["n_envs"]) == 0
    model.get_env().close()


@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
def test_the_progress_bar_shows_the_steps_that_count(make_model, monkeypatch):
    shown = []

    def close(bar, close=ProgressBarCallback._on_training_end):
        shown.append(bar.pbar.n)
        close(bar)

    monkeypatch.setattr(ProgressBarCallback, "_on_training_end", close)
    env = make_vec_env(lambda: GoalWrapper(Seeded(), [0]), 3)  # episodes of different lengths: some envs wait
    model = make_model(env, buffer_size=200).learn(90, progress_bar=True)
    assert shown == [model.num_timesteps]


def test_envs_that_end_at_different_times(make_model):

    model = make_model(make_vec_env(lambda: GoalWrapper(Seeded(), [0]), 3), buffer_size=200).learn(90)
    assert len(model.replay_buffer.skill) == model.skill_timesteps
    assert len(model.replay_buffer.goal) == model.goal_timesteps


def test_vec_normalize(make_model):
    env = VecNormalize(make_vec_env(make_env, 2), norm_obs_keys=["observation"])
    model = make_model(env).learn(80)
    assert np.abs(model.replay_buffer.skill.observations["observation"]).max() > 1
    assert np.abs(model.replay_buffer.goal.observations["desired_goal"]).max() <= 1


def test_goals_are_not_normalized(make_model):
    """Those achieved and those desired would be scaled by statistics of their own."""
    with pytest.raises(ValueError, match=r"norm_obs_keys=.'observation'.*got norm_obs_keys=.*'desired_goal'"):
        make_model(VecNormalize(make_vec_env(make_env, 2)))
    assert make_model(VecNormalize(make_vec_env(make_env, 2), norm_obs=False)).learn(40).num_timesteps == 40


def test_a_run_under_vec_normalize_goes_on_exactly(make_model, tmp_path):
    def make_normalized():
        return VecNormalize(make_vec_env(make_env, 2), norm_obs_keys=["observation"])

    whole = make_model(make_normalized()).learn(160)
    first = make_model(make_normalized()).learn(80)
    first.save_checkpoint(tmp_path)
    resumed = GPIM.load_checkpoint(tmp_path, make_normalized())
    statistics = [model.env.obs_rms["observation"] for model in (first, resumed)]
    assert statistics[0].count == statistics[1].count > 80
    assert np.array_equal(statistics[0].mean, statistics[1].mean)
    resumed.learn(80, reset_num_timesteps=False)
    assert_same_result(resumed, whole)


def test_evaluation_callbacks_and_logs(make_model, tmp_path):
    model = make_model()
    logs = record_logs(model)
    callbacks = [
        EvalCallback(Monitor(make_env()), eval_freq=40, n_eval_episodes=2, verbose=0),
        CheckpointCallback(60, str(tmp_path)),
    ]
    model.learn(120, callback=callbacks, log_interval=2)
    assert list(tmp_path.glob("rl_model_*_steps.zip"))
    steps, entry = logs.entries[-1]
    assert steps == 120
    assert 0 <= entry["train/discriminator_accuracy"] <= 1
    assert entry["train/discriminator_loss"] > 0
    assert entry["rollout/normalized_distance"] > 0
    assert entry["time/goal_timesteps"] == 60
    assert entry["train/n_updates"] == model._n_updates > 0
    assert {"train/skill_actor_loss", "train/goal_critic_loss", "rollout/ep_rew_mean", "rollout/ep_len_mean"} <= entry.keys()
    mean_reward, _ = evaluate_policy(model, Monitor(make_env()), n_eval_episodes=2)
    assert mean_reward < 0


class StopAt(BaseCallback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def _on_step(self):
        return self.num_timesteps < self.step


@pytest.mark.parametrize("step", [5, 15, 25])
def test_a_callback_can_stop_it(step, make_model):
    model = make_model().learn(100, callback=StopAt(step))
    assert model.num_timesteps == step
    assert len(model.replay_buffer.skill) == (10 if step > 20 else 0)  # an abandoned iteration leaves nothing


def test_the_same_seed_gives_the_same_result(make_model):
    one, two = make_model().learn(100), make_model()
    np.random.rand(7)
    th.rand(7)
    assert_same_result(one, two.learn(100))
    assert not th.equal(parameters_of(one), parameters_of(make_model(seed=1).learn(100)))


def test_a_seed_set_later_is_as_good(make_model):
    one, two, other = make_model(seed=1), make_model(seed=1), make_model(seed=1)
    for model, seed in ((one, 7), (two, 7), (other, 8)):
        model.set_random_seed(seed)
        model.learn(100)
    assert_same_result(one, two)
    assert not th.equal(parameters_of(one), parameters_of(other))


def test_learning_leaves_the_global_torch_generator_alone(make_model):
    model = make_model()
    before = th.random.get_rng_state()
    model.learn(60)
    assert th.equal(before, th.random.get_rng_state())


@pytest.mark.filterwarnings("ignore")  # of the maze's own
def test_point_maze(make_model):
    robotics = pytest.importorskip("gymnasium_robotics", reason="pip install gymnasium-robotics")
    gym.register_envs(robotics)
    model = make_model(gym.make("PointMaze_UMaze-v3", max_episode_steps=15)).learn(60)
    assert model.num_timesteps == 60
    observation, _ = gym.make("PointMaze_UMaze-v3").reset(seed=0)
    assert model.action_space.contains(model.predict(observation, deterministic=True)[0])


# ---------------------------------------------------------------- files


def test_file_without_pickles(make_model, tmp_path):
    model = make_model().learn(60)
    model.save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as file:
        data = file.read("data").decode()
        assert ":serialized:" not in data
        assert json.loads(data)["algorithm"] == "GPIM"
        assert {f"policy.{name}.pth" for name in model.policy.optimizer_names} <= set(file.namelist())
        for name in file.namelist():
            if name.endswith(".pth"):
                th.load(io.BytesIO(file.read(name)), weights_only=True)
    loaded = GPIM.load(tmp_path / "model", device="cpu")
    observation = make_env().reset(seed=1)[0]
    assert np.array_equal(
        loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )
    assert loaded.observation_space == model.observation_space
    with pytest.raises(ValueError, match="no env to learn in"):
        loaded.learn(10)


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_is_exact(kind, make_model, tmp_path):
    env_arguments, arguments = KINDS[kind]
    one = make_model(make_env(**env_arguments), **arguments).learn(60)
    one.save(tmp_path / "model")
    one.save_replay_buffer(tmp_path / "buffer")
    two = GPIM.load(tmp_path / "model", env=make_env(**env_arguments), device="cpu")
    two.load_replay_buffer(tmp_path / "buffer")
    assert_same_result(one, two)
    assert_same_result(one.learn(60, reset_num_timesteps=False), two.learn(60, reset_num_timesteps=False))


def test_a_buffer_of_another_env_is_refused(make_model, tmp_path):
    make_model(make_env(goal_space="image")).learn(20).save_replay_buffer(tmp_path / "buffer")
    model = make_model()
    with pytest.raises(ValueError, match="does not hold a replay buffer of this GPIM: the saved observations"):
        model.load_replay_buffer(tmp_path / "buffer")


def test_settings_survive(make_model, tmp_path):
    settings = dict(
        infer_latents=False,
        tau=0.5,
        gamma=0.5,
        train_freq=3,
        ent_coef=0.25,
        discriminator_learning_rate=0.125,
        segment_length=4,
        skill_steps=7,
    )
    make_model(**settings).save(tmp_path / "model")
    loaded = GPIM.load(tmp_path / "model", device="cpu")
    assert {name: getattr(loaded, name) for name in settings} == settings
    assert loaded.policy_kwargs == TINY


# ---------------------------------------------------------------- wrong arguments

BOX = spaces.Box(-1, 1, (2,), np.float32)


def goal_env(action_space=BOX, **replaced):
    parts = {"observation": BOX, "achieved_goal": BOX, "desired_goal": BOX, **replaced}
    return Spaces(spaces.Dict({key: space for key, space in parts.items() if space is not None}), action_space)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(goal_type="moving"), "goal_type must be one of 'fixed', 'dynamic', 'sequence', got 'moving'"),
        (dict(goal_type="sequence"), "segment_length must be an integer >= 1 where goal_type is 'sequence', got None"),
        (dict(segment_length=0), "segment_length must be an integer >= 1, got 0"),
        (dict(skill_steps=-1), "skill_steps must be an integer >= 1, got -1"),
        (dict(train_freq=1.5), "train_freq must be an integer >= 1, got 1.5"),
        (dict(tau=2), r"tau must be a number in \[0, 1\], got 2"),
        (dict(gamma="0.9"), r"gamma must be a number in \[0, 1\], got '0.9'"),
        (dict(ent_coef="auto"), "ent_coef must be a finite number >= 0, got 'auto'"),
        (dict(learning_starts=-1), "learning_starts must be an integer >= 0, got -1"),
        (dict(discriminator_learning_rate=-1), "discriminator_learning_rate must be a finite number >= 0, got -1"),
        (dict(infer_latents="no"), "infer_latents must be True or False, got 'no'"),
        (dict(policy_kwargs=[64]), r"policy_kwargs must be a dict or None, got \[64\]"),
        (dict(seed=-1), "seed must be an integer >= 0, got -1"),
        (dict(env="Navigation3D-v0"), "env must be a Gymnasium env or a registered id, got 'Navigation3D-v0'"),
        (dict(env=Seeded()), r"GPIM needs a goal env, .*wrap the env in sb3_gogepo.gpim.GoalWrapper"),
        (dict(env=goal_env(desired_goal=None)), "GPIM needs the keys observation, achieved_goal, desired_goal"),
        (
            dict(env=goal_env(desired_goal=spaces.Discrete(3))),
            r"GPIM needs Box spaces .* got Discrete\(3\) for 'desired_goal'",
        ),
        (dict(env=goal_env(observation=spaces.Box(-1, 1, (2, 2)))), r"needs a flat 'observation', got the shape \(2, 2\)"),
        (
            dict(env=goal_env(desired_goal=spaces.Box(-1, 1, (3,)))),
            r"goals of one shape, got \(2,\) achieved and \(3,\) desired",
        ),
        (
            dict(env=goal_env(desired_goal=spaces.Box(-1, 1, (3,))), goal_type="sequence", segment_length=2),
            r"a whole number of achieved goals long, got \(3,\) for \(2,\)",
        ),
        (dict(env=goal_env(spaces.Discrete(2))), "GPIM supports Box action spaces"),
        (dict(env=goal_env(spaces.Box(-np.inf, 1, (2,)))), "GPIM needs finite action bounds"),
        (dict(env=goal_env(spaces.Box(0, np.array([1, 0], np.float32)))), "GPIM needs action bounds with low < high"),
    ],
)
def test_wrong_constructor_arguments(arguments, message, make_model):
    with pytest.raises(ValueError, match=message):
        make_model(**arguments)


def test_wrong_policy():
    with pytest.raises(ValueError, match="policy must be one of MultiInputPolicy or a policy class, got 'MlpPolicy'"):
        GPIM("MlpPolicy", make_env(), **SMALL)


@pytest.mark.parametrize(("argument", "value"), [("total_timesteps", 0), ("log_interval", 0)])
def test_wrong_arguments_of_learn(argument, value, make_model):
    with pytest.raises(ValueError, match=f"{argument} must be .* >= 1, got 0"):
        make_model().learn(**{"total_timesteps": 10, argument: value})


def test_a_float_number_of_steps(make_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_model().learn(2e1).num_timesteps == 20
