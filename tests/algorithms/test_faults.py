"""What goes wrong in an episode stays there: its steps count, and nothing else of it is seen again."""

import copy
import warnings

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecMonitor

from sb3_gogepo import UDRL, GoGePo
from sb3_gogepo.errors import DiscardedEpisodeWarning, EnvFailedError, NonFiniteError
from sb3_gogepo.rollouts import collector
from tests.conftest import SMALL
from tests.faulty_envs import Faulty
from tests.helpers import optimizers_of, parameters_of, record_logs
from tests.toy_envs import ConstantObs, Spaces

NON_FINITE = ["observation nan", "observation inf", "reward nan", "reward inf"]


def vec_env(fault, n_envs=2, **kwargs):
    return make_vec_env(lambda: Faulty(fault), n_envs, **kwargs)


def assert_clean(model):
    """Nothing that is not finite is anywhere."""
    assert th.isfinite(parameters_of(model)).all()
    for name, value in model.replay_buffer.state_dict().items():
        assert not isinstance(value, th.Tensor) or th.isfinite(value).all(), name
    assert np.isfinite([info["r"] for info in model.ep_info_buffer]).all()


@pytest.mark.parametrize("fault", [*NON_FINITE, "raises", "reset raises"])
def test_a_bad_episode_is_discarded_and_counted(fault, make_model):
    """About a quarter of the episodes start above 0.5; their second step is their last."""
    model = make_model(vec_env(fault), n_candidates=4)
    recorder = record_logs(model)
    with pytest.warns(DiscardedEpisodeWarning, match="an episode is discarded: candidate"):
        model.learn(200, log_interval=1)
    n_bad = model._discarded_num
    assert 5 < n_bad < 30
    assert recorder.entries[-1][1]["rollout/discarded_episodes"] == n_bad
    n_good = model._episode_num - n_bad
    n_steps_of_bad = {"reset raises": 1, "observation nan": 3, "observation inf": 3}.get(fault, 2)
    assert model.num_timesteps == 4 * n_good + n_steps_of_bad * n_bad
    if not isinstance(model, UDRL):  # which keeps the best episodes only
        assert len(model.replay_buffer) == min(n_good, 50)
    assert len(model.ep_info_buffer) == n_good
    assert model.policy.normalizer.count.item() == 4 * n_good
    assert model._n_updates > 0
    assert_clean(model)


@pytest.mark.parametrize("fault", ["raises", "observation nan"])
def test_results_with_bad_episodes_do_not_depend_on_the_number_of_envs(fault, make_model):
    models = [make_model(vec_env(fault, n_envs), n_candidates=4) for n_envs in (1, 3)]
    for model in models:
        with pytest.warns(DiscardedEpisodeWarning):
            model.learn(100)
    assert th.equal(*map(parameters_of, models))
    assert models[0].num_timesteps == models[1].num_timesteps


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("observation nan", r"candidate \d+ \(reset seed \d+\): observation nan at step 3"),
        ("observation inf", r"observation -?inf at step 3"),
        ("reward nan", "reward nan at step 2"),
    ],
)
def test_raise_names_what_and_where(fault, message, make_model):
    with pytest.raises(NonFiniteError, match=message):
        make_model(vec_env(fault), on_non_finite="raise").learn(200)


def test_on_non_finite_is_checked(make_model):
    with pytest.raises(ValueError, match="on_non_finite must be one of 'discard', 'raise', got 'ignore'"):
        make_model(on_non_finite="ignore")


@pytest.mark.parametrize("normalize_observations", [False, True])
def test_numbers_too_large_for_float32_are_discarded(normalize_observations, make_model):
    """They are finite in the env's float64, and infinite in a network."""

    class Huge(Spaces):
        def step(self, action):
            return np.full(2, 1e300), 1e300, True, False, {}

    env = Huge(spaces.Box(-np.inf, np.inf, (2,), np.float64), spaces.Box(-1, 1, (1,)))
    model = make_model(env, normalize_observations=normalize_observations)
    before = parameters_of(model)
    with pytest.warns(DiscardedEpisodeWarning, match="reward inf at step 1|return of up to"), np.errstate(over="ignore"):
        model.learn(3)
    assert th.equal(parameters_of(model), before)


@pytest.mark.parametrize(
    "make_env",
    [
        lambda: VecMonitor(DummyVecEnv([lambda: Faulty("observation nan")] * 2)),
        lambda: VecFrameStack(vec_env("observation nan"), n_stack=2),
    ],
    ids=["VecMonitor", "VecFrameStack"],
)
def test_under_wrappers_that_must_see_episodes_out(make_env, make_model):
    """The episode goes on, with zeros, and is discarded when it has ended."""
    model = make_model(make_env(), n_candidates=4)
    with pytest.warns(DiscardedEpisodeWarning, match="observation nan at step 3"):
        model.learn(100)
    assert model.num_timesteps == 4 * model._episode_num
    assert {info["l"] for info in model.ep_info_buffer} == {4}
    assert_clean(model)


# ---------------------------------------------------------------- envs that raise


def test_the_traceback_is_reported(make_model):
    with pytest.warns(DiscardedEpisodeWarning, match=r"the env failed at step 2:\n(.|\n)*the simulation has diverged"):
        make_model(vec_env("raises")).learn(60)


def test_an_env_that_keeps_failing_ends_the_training(make_model):
    class Broken(ConstantObs):
        def step(self, action):
            raise RuntimeError("always")

    with (
        pytest.warns(DiscardedEpisodeWarning) as warned,
        pytest.raises(EnvFailedError, match=r"20 episodes in a row had to be discarded; the last one: (.|\n)*always"),
    ):
        make_model(Broken()).learn(1000)
    assert len(warned) == 19


def test_the_envs_are_as_before_after_learning(make_model):
    env = vec_env("raises")
    single = env.envs[:]
    with pytest.warns(DiscardedEpisodeWarning):
        make_model(env).learn(60)
    assert env.envs == single


def test_an_episode_that_may_never_end_is_reported_once(make_model, monkeypatch):
    monkeypatch.setattr(collector, "LONG_EPISODE", 10)
    with pytest.warns(UserWarning, match="have made 20 env steps, and nothing is learned before they have ended") as caught:
        make_model(make_vec_env(lambda: ConstantObs(50), 2)).learn(5)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_model(ConstantObs(50)).learn(60)  # no more than what was asked for


def test_evaluation_hides_nothing(make_model):
    with pytest.raises(RuntimeError, match="the simulation has diverged"):
        make_model(vec_env("raises")).evaluate_commands([0.0], n_eval_episodes=20)
    with pytest.raises(NonFiniteError, match=r"command 0, seed \d+: reward nan at step 2"):
        make_model(vec_env("reward nan")).evaluate_commands([0.0], n_eval_episodes=20)


def test_a_dead_process_of_a_subproc_vec_env_is_explained(make_model):
    env = vec_env("dies", vec_env_cls=SubprocVecEnv)
    try:
        with pytest.raises(
            EnvFailedError, match=r'process of env .* has ended(.|\n)*rollout_backend="subprocess" restarts envs'
        ):
            make_model(env, n_candidates=4).learn(200)
    finally:
        for process in env.processes:
            process.kill()
        env.closed = True


# ---------------------------------------------------------------- losses and generated weights


@pytest.mark.parametrize("fused", [True, False])
def test_a_loss_that_is_not_finite_makes_no_step(fused, make_model, tiny):
    """All weights 1e30: the squares in losses and gradients are infinite in float32."""
    model = make_model(policy_kwargs={**tiny["policy_kwargs"], "optimizer_kwargs": dict(fused=fused)}).learn(60)
    recorder = record_logs(model)
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.fill_(1e30)
    before = [copy.deepcopy(optimizer.state_dict()["state"]) for optimizer in optimizers_of(model)]
    assert all(before)
    with pytest.warns(DiscardedEpisodeWarning, match="_loss or its gradient was not finite in 2 of 2 gradient steps"):
        model.train(1)
    model.dump_logs()
    assert recorder.entries[-1][1]["train/skipped_steps"] == 2 * len(before)
    for parameter in model.policy.parameters():
        assert (parameter == 1e30).all()
    for state, optimizer in zip(before, optimizers_of(model), strict=True):
        for index, one in optimizer.state_dict()["state"].items():
            assert all(th.equal(value, state[index][name]) for name, value in one.items())
    model.on_non_finite = "raise"
    with pytest.raises(NonFiniteError, match="in 2 of 2 gradient steps; they were not made"):
        model.train(1)


def test_weights_that_are_not_finite_stay_out_of_the_buffer():
    model = GoGePo("MlpPolicy", Faulty(), **SMALL[GoGePo], n_candidates=3)
    propose = model.propose_candidates

    def propose_bad(n_candidates):
        candidates = propose(n_candidates)
        candidates.policy_weights[1, 0] = th.nan
        candidates.policy_weights[2, :2] = -th.inf
        return candidates

    model.propose_candidates = propose_bad
    n_weights = model.policy.layout.n_weights
    with pytest.warns(DiscardedEpisodeWarning, match="candidate") as warned:
        model.learn(9)
    assert f"2 of {n_weights} generated weights are not finite (command 0)" in str(warned[-1].message)
    assert len(warned) == 2
    assert len(model.replay_buffer) == 1
    assert_clean(model)


def test_weights_too_large_to_be_folded_stay_out_of_the_buffer():
    model = GoGePo("MlpPolicy", Faulty(), **SMALL[GoGePo])
    model.policy.normalizer.var.fill_(1e-8)
    candidates = model.propose_candidates(1)
    assert model.check_candidate(candidates, 0) is None
    candidates.policy_weights[0, 0] = 3e38
    assert "too large for float32" in str(model.check_candidate(candidates, 0))
