"""The pool's bookkeeping, with workers that are no processes and whose fate is known beforehand."""

import time

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sb3_gogepo.errors import DiscardedEpisodeWarning, EnvFailedError
from sb3_gogepo.rollouts.rollout import Episode
from sb3_gogepo.rollouts.workers.episode_worker import Job, Outcome
from sb3_gogepo.rollouts.workers.interface import PoolSettings, WorkerLost, check_rollout
from sb3_gogepo.rollouts.workers.make_backend import copy_env
from sb3_gogepo.rollouts.workers.pool import WorkerPool
from tests.toy_envs import ConstantObs, Seeded


class FakeWorker:
    """Runs ``fates``, one a job: "ok", "slow" (others come first), "dies" or "hangs"."""

    def __init__(self, fates):
        self.fates, self.job, self.killed = fates, None, False

    def submit(self, job):
        assert self.job is None
        self.job = job
        self.fate = self.fates.pop(0) if self.fates else "ok"

    def result(self):
        job, self.job = self.job, None
        if job is None:
            return None
        if self.fate == "dies":
            raise WorkerLost("killed")
        return Outcome(Episode(episode_return=float(job.seed), length=job.seed, observations=None), {"seed": job.seed})

    def kill(self):
        self.killed = True


class FakeBackend:
    """The n-th worker started gets the n-th list of fates, and those after them no bad ones."""

    def __init__(self, *fates, **settings):
        self.settings = PoolSettings(**{"n_workers": 2, "episode_timeout_s": 0.02, **settings})
        self.fates = list(fates)
        self.started = []
        self.closed = False

    def start(self):
        self.started.append(FakeWorker(list(self.fates.pop(0)) if self.fates else []))
        return self.started[-1]

    def wait(self, workers, timeout_s):
        ready = [worker for worker in workers if worker.job is None or worker.fate in ("ok", "dies")]
        if not ready:
            ready = [worker for worker in workers if worker.fate == "slow"]
        if not ready:
            assert timeout_s <= 0.02
            time.sleep(timeout_s + 0.001)
        return ready

    def close(self):
        self.closed = True


def run(backend, seeds=(1, 2, 3, 4), stop_after=None):
    """-> episode returns (None: stopped) and the (steps, info, done) reported."""
    steps = []

    def on_step(step):
        steps.append((step.n_active, step.infos[0], bool(step.dones[0])))
        return stop_after is None or len(steps) < stop_after

    jobs = [Job(make_actors=None, seed=seed, keep_observations=False, keep_steps=False) for seed in seeds]
    episodes = WorkerPool(backend).run(jobs, on_step)
    return episodes, steps


def returns(episodes):
    return [episode.episode_return for episode in episodes]


@pytest.mark.parametrize("fates", [[], [["slow"]], [["slow", "slow"], ["ok", "slow"]]])
def test_episodes_come_in_the_order_of_the_jobs(fates):
    episodes, steps = run(FakeBackend(*fates))
    assert returns(episodes) == [1, 2, 3, 4]
    last = [(1, {"seed": seed}, True) for seed in (1, 2, 3, 4)]
    assert [step for step in steps if step[2]] == last
    assert len(steps) == 1 + 2 + 3 + 4
    assert all(step == (1, {}, False) for step in steps if step not in last)


@pytest.mark.parametrize("fate", ["dies", "hangs"])
@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_lost_worker_changes_nothing(fate, n_workers):
    backend = FakeBackend(["ok", fate], n_workers=n_workers)
    with pytest.warns(DiscardedEpisodeWarning, match=r"a worker is lost and replaced: (killed|no result after 0.02 s)"):
        episodes, _ = run(backend)
    assert returns(episodes) == [1, 2, 3, 4]
    assert [worker.killed for worker in backend.started].count(True) == 1


def test_all_workers_lost_change_nothing():
    with pytest.warns(DiscardedEpisodeWarning):
        episodes, _ = run(FakeBackend(["dies"], ["dies"], ["hangs"], ["dies"]))
    assert returns(episodes) == [1, 2, 3, 4]


def test_a_job_that_loses_all_its_workers_is_given_up():
    """With one worker, the first job is tried thrice."""
    backend = FakeBackend(["dies"], ["dies"], ["dies"], n_workers=1)
    with pytest.warns(DiscardedEpisodeWarning):
        episodes, steps = run(backend)
    assert episodes[0].discarded.is_fault
    assert episodes[0].discarded.reason == "3 workers were lost over it; the last: killed"
    assert steps[0] == (1, {"discarded": episodes[0].discarded.reason}, True)
    assert [episode.discarded for episode in episodes[1:]] == [None] * 3


def test_workers_that_keep_dying_end_it():
    backend = FakeBackend(*[["dies"]] * 100)
    with pytest.warns(DiscardedEpisodeWarning), pytest.raises(EnvFailedError, match=r"20 workers in a row were lost.*killed"):
        run(backend, seeds=range(1, 50))
    assert len(backend.started) <= 22


def test_workers_are_kept_between_runs_and_ended_by_close():
    backend = FakeBackend()
    pool = WorkerPool(backend)
    for _ in range(3):
        assert len(list(pool.outcomes([Job(None, 1, False, False)] * 4))) == 4
    assert len(backend.started) == 2
    pool.close()
    assert all(worker.killed for worker in backend.started)
    assert backend.closed


def test_stopping_ends_the_busy_workers():
    backend = FakeBackend(["ok"], ["hangs"], episode_timeout_s=60)
    episodes, steps = run(backend, seeds=(2, 5), stop_after=2)
    assert episodes is None
    assert len(steps) == 2
    assert [worker.killed for worker in backend.started] == [False, True]


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("threads", None, None), "rollout_backend must be one of 'in-process', 'subprocess', 'ray', got 'threads'"),
        (("in-process", 2, None), r'rollout_workers and rollout_kwargs need rollout_backend="subprocess" or "ray", got 2'),
        (("subprocess", 0, None), "rollout_workers must be an integer >= 1, got 0"),
        (("subprocess", 1, dict(timeout=3)), "a key of rollout_kwargs must be one of 'episode_timeout_s', .* got 'timeout'"),
        (("subprocess", 1, dict(ray_init_kwargs={})), "a key of rollout_kwargs must be one of .* got 'ray_init_kwargs'"),
        (("ray", 1, dict(episode_timeout_s=0)), "episode_timeout_s must be a finite number > 0, got 0"),
        (("ray", 1, dict(start_timeout_s=-1)), "start_timeout_s must be a finite number > 0, got -1"),
        (("subprocess", 1, dict(max_tries=0)), "max_tries must be an integer >= 1, got 0"),
    ],
)
def test_settings_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_rollout(*arguments)


def test_envs_are_copied_without_their_monitor():
    env = make_vec_env(Seeded, 1)
    copy = copy_env(env)()
    assert isinstance(copy, Seeded)
    assert copy is not env.envs[0].unwrapped


def test_the_tweaks_of_an_env_are_copied():
    env = gym.make("Pendulum-v1", g=3.0, max_episode_steps=7)
    copy = copy_env(DummyVecEnv([lambda: env]))()
    assert copy.unwrapped.g == 3.0
    copy.reset(seed=0)
    assert [copy.step(np.zeros(1, np.float32))[3] for _ in range(7)] == [False] * 6 + [True]


def test_vec_envs_that_cannot_be_copied():
    with pytest.raises(ValueError, match=r"cannot copy the envs of a VecNormalize: pass env as an id.*normalize_observations"):
        copy_env(VecNormalize(make_vec_env(ConstantObs, 1)))
    env = make_vec_env(ConstantObs, 1, vec_env_cls=SubprocVecEnv)
    try:
        with pytest.raises(ValueError, match="cannot copy the envs of a SubprocVecEnv"):
            copy_env(env)
    finally:
        env.close()


def test_envs_that_cannot_be_pickled():
    class Unpicklable(ConstantObs):
        def __reduce__(self):
            raise TypeError("has an open window")

    with pytest.raises(ValueError, match=r"cannot be pickled \(has an open window\): pass env as a function that makes it"):
        copy_env(make_vec_env(Unpicklable, 1))
