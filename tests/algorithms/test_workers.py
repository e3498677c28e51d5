"""Episodes in workers: whatever happens to these, the results are those of one env in this process."""

import contextlib
import gc
import ipaddress
import os
import subprocess
import sys
import time
import warnings
from functools import partial

import psutil
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_gogepo.errors import DiscardedEpisodeWarning, EnvFailedError
from tests.faulty_envs import DiesOnce, Faulty, only_in_the_driver
from tests.helpers import assert_same_result, parameters_of
from tests.toy_envs import Seeded

# Ray keeps handles of processes it started until it is shut down, and then drops some without waiting for them
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::FutureWarning:ray"
)

SUBPROCESS = dict(rollout_backend="subprocess", rollout_workers=2, n_candidates=4)


@pytest.fixture(params=["subprocess", "ray"])
def backend(request):
    """One Ray for all tests of this file: to start one takes longer than all else."""
    if request.param == "ray":
        request.getfixturevalue("local_ray")
    return request.param


@pytest.fixture(scope="module")
def local_ray():
    ray = pytest.importorskip("ray")
    from sb3_gogepo.rollouts.workers.interface import PoolSettings
    from sb3_gogepo.rollouts.workers.ray_backend import RayBackend

    RayBackend(b"", PoolSettings(n_workers=2))
    yield ray
    ray.shutdown()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # the handles that are dropped now, not in somebody else's test


def n_workers_alive():
    alive = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            alive += "ray::EpisodeWorker" in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE
    return alive


def assert_no_workers_left():
    deadline = time.monotonic() + 20
    while n_workers_alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert n_workers_alive() == 0


def test_results_are_those_of_one_env(make_model, backend):
    expected = make_model(n_candidates=4).learn(80)
    assert expected._n_updates > 0
    model = make_model(**{**SUBPROCESS, "rollout_backend": backend}).learn(80)
    assert_same_result(expected, model)
    assert [info["r"] for info in model.ep_info_buffer] == [info["r"] for info in expected.ep_info_buffer]
    assert [info["l"] for info in model.ep_info_buffer] == [info["l"] for info in expected.ep_info_buffer]
    assert_no_workers_left()


def test_a_worker_killed_in_its_first_episode_changes_nothing(make_model, backend, tmp_path):
    expected = make_model(Seeded(), n_candidates=4).learn(40)
    env_fn = partial(DiesOnce, str(tmp_path / "dead"))
    with open(tmp_path / "dead", "w"):
        model = make_model(env_fn, **{**SUBPROCESS, "rollout_backend": backend})
    (tmp_path / "dead").unlink()
    with pytest.warns(DiscardedEpisodeWarning, match="a worker is lost and replaced"):
        model.learn(40)
    assert_same_result(expected, model)


@pytest.mark.parametrize("fault", ["raises", "dies", "hangs"])
def test_a_fault_costs_its_episode(fault, make_model):
    """The episodes that start above 0.8, one in ten, are tried once and given up."""
    kwargs = dict(episode_timeout_s=3.0, max_tries=1)
    model = make_model(partial(Faulty, fault, threshold=0.8), **SUBPROCESS, rollout_kwargs=kwargs)
    with pytest.warns(DiscardedEpisodeWarning, match="an episode is discarded: candidate|a worker is lost"):
        model.learn(120)
    assert 0 < model._discarded_num < 8
    assert model.policy.normalizer.count.item() == 4 * (model._episode_num - model._discarded_num)
    assert th.isfinite(parameters_of(model)).all()


def test_the_traceback_comes_back(make_model):
    model = make_model(partial(Faulty, "raises", threshold=-1), **SUBPROCESS)
    with pytest.warns(DiscardedEpisodeWarning), pytest.raises(EnvFailedError, match="the simulation has diverged"):
        model.learn(1000)


def test_an_env_that_workers_cannot_make(make_model):
    model = make_model(only_in_the_driver, **SUBPROCESS)
    with (
        pytest.warns(DiscardedEpisodeWarning),
        pytest.raises(EnvFailedError, match=r"20 episodes in a row .*the env could not be made:(.|\n)*no licence"),
    ):
        model.learn(1000)


def test_non_finite_numbers_as_in_process(make_model):
    models = [make_model(Faulty("reward nan"), n_candidates=4), make_model(Faulty("reward nan"), **SUBPROCESS)]
    for model in models:
        with pytest.warns(DiscardedEpisodeWarning, match=r"candidate \d+ \(reset seed \d+\): reward nan at step 2"):
            model.learn(40)
    assert_same_result(*models)


# ---------------------------------------------------------------- callbacks


def test_callbacks_see_what_they_see_of_one_env(make_model):
    """Evaluations at the same steps, of the same model."""
    seen = []
    for kwargs in (dict(n_candidates=4), SUBPROCESS):
        callback = EvalCallback(make_vec_env(Seeded, 1, seed=3), eval_freq=7, n_eval_episodes=2, verbose=0)
        make_model(**kwargs).learn(60, callback)
        seen.append((callback.evaluations_timesteps or callback.n_calls, callback.last_mean_reward, callback.num_timesteps))
    assert seen[0] == seen[1]


def test_a_callback_can_stop_in_the_midst_of_an_episode(make_model):
    class StopAt(BaseCallback):
        def _on_step(self):
            return self.num_timesteps < 11

    for kwargs in (dict(n_candidates=4), SUBPROCESS):
        model = make_model(**kwargs).learn(100, StopAt())
        assert model.num_timesteps == 11
        assert model._episode_num % 4 == 0


def test_training_can_go_on(make_model):
    """Workers end with learn; the next one has new ones."""
    expected = make_model(n_candidates=4).learn(40).learn(40, reset_num_timesteps=False)
    assert_same_result(expected, make_model(**SUBPROCESS).learn(40).learn(40, reset_num_timesteps=False))


def test_save_and_load(make_model, algorithm, tmp_path):
    """The function that makes envs is not saved; copies of the env given to load do as well."""
    expected = make_model(Seeded(), **SUBPROCESS).learn(20).learn(20, reset_num_timesteps=False)
    model = make_model(Seeded, **SUBPROCESS).learn(20)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    model = algorithm.load(tmp_path / "model", env=Seeded())
    model.load_replay_buffer(tmp_path / "buffer")
    assert model.env_fn is None
    assert model.rollout_workers == 2
    model.learn(20, reset_num_timesteps=False)
    assert th.equal(parameters_of(model), parameters_of(expected))


# ---------------------------------------------------------------- Ray


def test_without_ray(monkeypatch, make_model):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'rollout_backend="ray" needs Ray: pip install "sb3-gogepo\[ray\]"'):
        make_model(rollout_backend="ray", rollout_workers=2).learn(10)


def test_more_workers_than_cpus(make_model, local_ray):
    with pytest.raises(ValueError, match="rollout_workers must be at most 2, the CPUs of the Ray cluster, got 3"):
        make_model(rollout_backend="ray", rollout_workers=3).learn(10)
    assert local_ray.is_initialized()


def test_ray_listens_on_this_machine_only(local_ray):
    """Each of its ports is bound to the loopback address, and a token is required."""
    listening = []
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            listening += [one.laddr.ip for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert len(listening) >= 4
    assert {ipaddress.ip_address(one.removeprefix("::ffff:")) for one in listening} == {ipaddress.ip_address("127.0.0.1")}
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_ray_turns_a_wrong_token_away(local_ray):
    address = local_ray.get_runtime_context().gcs_address
    ask = f"from ray._raylet import GcsClient; print(GcsClient(address='{address}').internal_kv_keys(b'', None, timeout=10))"

    def output(token):
        environment = {**os.environ, "RAY_AUTH_TOKEN": token}
        command = [sys.executable, "-c", ask]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        return ended.stdout + ended.stderr

    assert "AuthenticationError" not in output(os.environ["RAY_AUTH_TOKEN"])
    assert "AuthenticationError" in output("0" * 64)
