"""Callbacks look at, and change, the envs that run the episodes; they and the wrappers see each episode once."""

import cloudpickle
import numpy as np
import pytest
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import load_results
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor, VecNormalize

from sb3_gogepo import GoGePo
from sb3_gogepo.errors import DiscardedEpisodeWarning
from sb3_gogepo.rollouts.workers.episode_worker import EpisodeWorker
from tests.helpers import assert_same_result
from tests.toy_envs import ConstantObs, Seeded


class Level(Seeded):
    """Tells the level, which a curriculum may change, after each step, and the map when it is reset, too."""

    level = 0

    def set_level(self, level):
        self.level = level

    def reset(self, **kwargs):
        observation, _ = super().reset(**kwargs)
        self.map = int(self.np_random.integers(1000))
        return observation, {"map": self.map}

    def step(self, action):
        *result, info = super().step(action)
        return *result, {**info, "level": self.level, "map": self.map}


class Curriculum(BaseCallback):
    """Calls ``change(vec_env)`` once, after 20 steps; keeps the levels that it saw before and after that."""

    def __init__(self, change):
        super().__init__()
        self.change, self.is_changed, self.seen = change, False, {False: set(), True: set()}

    def _on_step(self):
        self.seen[self.is_changed] |= {info["level"] for info in self.locals["infos"] if "level" in info}
        if not self.is_changed and self.num_timesteps >= 20:
            self.change(self.training_env)
            self.is_changed = True
        return True


#: What all algorithms share: one will do.
once = pytest.mark.parametrize("algorithm", [GoGePo], ids=["GoGePo"])


def set_in_envs(vec_env):
    for env in vec_env.envs:
        env.level = 3


IN_ANY = {
    "set_attr": lambda env: env.set_attr("level", 3),
    "env_method": lambda env: env.env_method("set_level", 3),
    "indices": lambda env: [env.env_method("set_level", 3, indices=i) for i in range(env.num_envs)],
}
IN_PROCESS = {**IN_ANY, "envs": set_in_envs, "unwrapped": lambda env: set_in_envs(env.unwrapped)}


def assert_lasts(change, env, make_model):
    """From the next step on, and after the training."""
    callback = Curriculum(change)
    model = make_model(env).learn(60, callback)
    assert callback.seen == {False: {0}, True: {3}}
    assert env.get_attr("level") == [3] * env.num_envs
    model.learn(20, reset_num_timesteps=False)
    model.evaluate_commands([0.0], n_eval_episodes=2)
    assert env.get_attr("level") == [3] * env.num_envs


@once
@pytest.mark.parametrize("change", IN_PROCESS)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_what_a_callback_changes_lasts(change, n_envs, make_model):
    assert_lasts(IN_PROCESS[change], DummyVecEnv([Level] * n_envs), make_model)


def test_what_a_callback_changes_under_a_wrapper_lasts(make_model):
    assert_lasts(IN_ANY["set_attr"], VecNormalize(DummyVecEnv([Level] * 2)), make_model)


@pytest.fixture(scope="module")
def subproc():
    """Two processes for all tests, as they take seconds to start."""
    env = SubprocVecEnv([Level] * 2)
    yield env
    env.close()


@once
@pytest.mark.parametrize("change", IN_ANY)
def test_what_a_callback_changes_in_other_processes_lasts(change, subproc, make_model):
    subproc.set_attr("level", 0)
    assert_lasts(IN_ANY[change], subproc, make_model)


class Here:
    """A backend, and its only worker, without a process of its own."""

    def __init__(self, _name, env_fn, settings):
        self.worker, self.settings, self.outcome = EpisodeWorker(cloudpickle.dumps(env_fn)), settings, None
        self.start = lambda: self
        self.kill = self.close = lambda: None

    def wait(self, workers, _timeout_s):
        return list(workers)

    def submit(self, job):
        self.outcome = self.worker.run(job)

    def result(self):
        return self.outcome


REFUSED = {
    **IN_PROCESS,
    "a method": lambda env: env.envs[0].unwrapped.set_level(3),
    "get_wrapper_attr": lambda env: env.envs[0].get_wrapper_attr("set_level")(3),
    "below wrappers": lambda env: setattr(env.envs[0].unwrapped, "level", 3),
}


@once
@pytest.mark.parametrize(
    ("change", "on"),
    [*((change, "_on_step") for change in REFUSED), ("set_attr", "_on_rollout_start"), ("set_attr", "_on_rollout_end")],
)
def test_workers_refuse_what_would_reach_nobody(change, on, make_model, monkeypatch):
    """The error names the argument; looking at the env is fine; afterwards everything is as before."""

    class Changing(BaseCallback):
        def _on_step(self):
            return True

    def change_it(callback):
        assert callback.training_env.get_attr("level") == [0]
        assert callback.training_env.envs[0].get_wrapper_attr("level") == 0
        REFUSED[change](callback.training_env)
        return True

    monkeypatch.setattr(Changing, on, change_it)
    monkeypatch.setattr("sb3_gogepo.rollouts.collector.make_backend", Here)
    model = make_model(Level(), rollout_backend="subprocess", rollout_workers=1)
    with pytest.raises(RuntimeError, match=r'would change an env that runs no episode: with rollout_backend="subprocess"'):
        model.learn(20, Changing())
    IN_PROCESS[change if change in IN_PROCESS else "set_attr"](model.get_env())
    model.rollout_backend, model.rollout_workers = "in-process", None
    assert model.learn(20).num_timesteps >= 20


# ---------------------------------------------------------------- callbacks that use the training env


@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize("n_candidates", [None, 2])
def test_an_evaluation_in_the_training_env_costs_the_episodes_there(n_envs, n_candidates, make_model):
    env = make_vec_env(Seeded, n_envs)
    callback = EvalCallback(env, eval_freq=5, n_eval_episodes=5, verbose=0)
    model = make_model(env, n_candidates=n_candidates)
    with pytest.warns(DiscardedEpisodeWarning, match="a callback resets the training env .*: give it an env of its own"):
        model.learn(60, callback)
    assert np.isfinite(callback.last_mean_reward)
    assert 60 <= model.num_timesteps < 120
    assert 0 < model._discarded_num < model._episode_num


def test_an_episode_that_evaluations_would_never_let_end(make_model):
    """VecMonitor must see episodes out, so that they cannot be given up."""
    env = VecMonitor(DummyVecEnv([lambda: ConstantObs(20)]))
    with pytest.raises(RuntimeError, match="once more before these have ended, and they never would"):
        make_model(env).learn(60, EvalCallback(env, eval_freq=5, n_eval_episodes=1, verbose=0))


@pytest.mark.parametrize("n_envs", [1, 4])
def test_an_evaluation_between_episodes_changes_nothing(n_envs, make_model):
    class Evaluating(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            assert len(evaluate_policy(self.model, self.training_env, 5, return_episode_rewards=True)[0]) == 5

    models = [make_model(make_vec_env(Seeded, n_envs)).learn(60, callback) for callback in (None, Evaluating())]
    assert_same_result(*models)


# ---------------------------------------------------------------- one reset an episode


class Rows(ConstantObs):
    """Each reset takes the next of ten rows of data."""

    def __init__(self):
        super().__init__(length=3)
        self.row, self.used = -1, []

    def reset(self, **kwargs):
        self.row = (self.row + 1) % 10
        return super().reset(**kwargs)

    def step(self, action):
        if self.t == 0:
            self.used.append(self.row)
        return super().step(action)


def test_no_row_of_data_is_left_out(make_model):
    env = Rows()
    make_model(env).learn(90)
    assert env.used == [*range(10)] * 3


@pytest.mark.parametrize("where", ["in process", "in others"])
def test_reset_infos_are_those_of_the_present_episode(where, make_model, request):
    env = DummyVecEnv([Level] * 2) if where == "in process" else request.getfixturevalue("subproc")
    told, pairs = {}, []

    def on_step(seen, _):
        for i, info in enumerate(seen["infos"]):
            if "map" in info:
                pairs.append((told.get(i, info["map"]), info["map"]))
                told[i] = seen["env"].reset_infos[i]["map"]
        return True

    make_model(env, n_candidates=2).learn(100, on_step)
    assert all(told == played for told, played in pairs)
    assert len(set(pairs)) > 10


def test_monitor_files_hold_the_episodes_of_the_training(make_model, tmp_path):
    """Of envs whose episodes differ in length, and some of which wait."""
    env = make_vec_env(Seeded, 8, monitor_dir=str(tmp_path))
    model = make_model(env, stats_window_size=1000).learn(300)
    env.close()
    files, counted = load_results(str(tmp_path)), model.ep_info_buffer
    assert sorted(files.l) == sorted(info["l"] for info in counted)
    assert files.l.sum() == model.num_timesteps
    np.testing.assert_allclose(sorted(files.r), sorted(info["r"] for info in counted), atol=1e-5)


# ---------------------------------------------------------------- locals


def locals_seen(model, n_steps):
    names, seen = ("rewards", "actions", "new_obs", "dones"), []

    def on_step(given, _):
        seen.append({"env": given["env"], **{name: np.array(given[name]) for name in names}})
        return True

    model.learn(n_steps, on_step)
    return seen


@pytest.mark.parametrize("n_envs", [1, 3])
def test_locals_are_as_with_sac(n_envs, make_model):
    """Rewards are the actions taken."""
    own = locals_seen(make_model(make_vec_env(lambda: ConstantObs(4), n_envs)), 24)
    sac = locals_seen(SAC("MlpPolicy", make_vec_env(lambda: ConstantObs(4), n_envs), learning_starts=1000), 24)
    assert len(own) == len(sac)
    for ours, theirs in zip(own, sac, strict=True):
        assert {name: value.shape for name, value in ours.items() if name != "env"} == {
            name: value.shape for name, value in theirs.items() if name != "env"
        }
        assert isinstance(ours["env"], type(theirs["env"]))
        np.testing.assert_allclose(ours["rewards"], ours["actions"][:, 0], rtol=1e-5)
        assert np.array_equal(ours["dones"], theirs["dones"])


def test_joined_steps_keep_all_rewards_and_ends(make_model):
    """Where some envs wait, several steps are shown together: nothing of them is lost."""
    model = make_model(make_vec_env(Seeded, 4), stats_window_size=1000)
    total, n_done = 0.0, 0
    for seen in locals_seen(model, 100):
        total, n_done = total + seen["rewards"].sum(), n_done + seen["dones"].sum()
    assert n_done == len(model.ep_info_buffer) == model._episode_num
    assert total == pytest.approx(sum(info["r"] for info in model.ep_info_buffer), abs=1e-3)
