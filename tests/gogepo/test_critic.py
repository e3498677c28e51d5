"""GoGePo(use_critic=True): what is learned from each step, who acts, and that all guarantees hold with it."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_gogepo import GoGePo
from sb3_gogepo.buffers.policy_buffer import ACTOR, BEST, PROBE, REFINED, PolicyBuffer
from sb3_gogepo.gogepo.candidate_mix import MIN_SHARE, REFINED_SHARE, choose_kind, critic_share
from sb3_gogepo.gogepo.critic_learner import CriticSettings
from tests.conftest import SMALL
from tests.helpers import record_logs
from tests.toy_envs import ConstantObs, Seeded

CRITIC = dict(net_arch=[16], learning_starts=8, batch_size=8, buffer_size=200, updates_per_step=1, refine_steps=2)


def make(env=None, **overrides):
    critic_kwargs = {**CRITIC, **overrides.pop("critic_kwargs", {})}
    arguments = {**SMALL[GoGePo], "use_critic": True, "critic_kwargs": critic_kwargs, "n_warm_up_episodes": 4, **overrides}
    return GoGePo("MlpPolicy", Seeded() if env is None else env, **arguments)


def contents(model):
    """All that learning changes."""
    buffer = {name: value for name, value in model.replay_buffer.state_dict().items() if th.is_tensor(value)}
    return {**model.policy.state_dict(), **buffer}


def assert_equal(model, other):
    a, b = contents(model), contents(other)
    assert a.keys() == b.keys()
    different = [name for name in a if not th.equal(a[name], b[name])]
    assert not different


class Walk(gym.Env):
    """Reward 1 - (action - 0.5 * position)^2: the best policy is one that a critic finds at once."""

    observation_space, action_space = spaces.Box(-5, 5, (1,), np.float32), spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-1, 1)
        return np.array([self.position], np.float32), {}

    def step(self, action):
        reward = 1 - (float(action[0]) - 0.5 * self.position) ** 2
        self.position = self.np_random.uniform(-1, 1)
        return np.array([self.position], np.float32), reward, False, False, {}


class Match(gym.Env):
    """Reward 1 for choosing the sign of the observation, choices numbered from 5."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2, start=5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1)
        return np.array([self.place], np.float32), {}

    def step(self, action):
        reward = float((action == 6) == (self.place > 0))
        self.place = self.np_random.uniform(-1, 1)
        return np.array([self.place], np.float32), reward, False, False, {}


def test_the_actor_learns():
    """It earns most of what can be earned, 20, where the first policies do not."""
    critic_kwargs = dict(updates_per_step=2, learning_rate=3e-3, batch_size=32, buffer_size=2000, learning_starts=100)
    model = make(TimeLimit(Walk(), 20), critic_kwargs=critic_kwargs).learn(1500)
    positions = th.linspace(-1, 1, 50)[:, None]
    actions = model.policy.critic.act(model.policy.critic.actor, model.policy.normalizer(positions))
    assert (actions - 0.5 * positions).square().mean() < 0.04  # 0 everywhere has 0.083
    assert model.best_return > 19.5


def test_the_actor_learns_choices():
    """It chooses right nearly always; chance is 10 of 20."""
    critic_kwargs = dict(updates_per_step=2, learning_rate=3e-3, batch_size=32, buffer_size=2000, learning_starts=100)
    model = make(TimeLimit(Match(), 20), critic_kwargs=critic_kwargs).learn(1500)
    assert set(model.replay_buffer.transitions.actions[:100].ravel()) == {0, 1}
    places = th.linspace(-1, 1, 21)[:, None]
    probabilities = model.policy.critic.act(model.policy.critic.actor, model.policy.normalizer(places))
    right = probabilities.argmax(dim=1) == (places[:, 0] > 0)
    assert right.float().mean() > 0.85


def test_learning_rate_falls_unless_it_is_a_number():
    falling, constant = make().learn(60), make(critic_kwargs=dict(learning_rate=1e-3)).learn(60)
    for optimizer in ("critics_optimizer", "actor_optimizer"):
        assert getattr(falling.policy, optimizer).param_groups[0]["lr"] == 0.0
        assert getattr(constant.policy, optimizer).param_groups[0]["lr"] == 1e-3


def test_steps_are_stored_as_they_were():
    model = make(TimeLimit(Seeded(max_length=4), 3)).learn(40)
    stored = model.replay_buffer.transitions
    n = stored.size()
    assert n == stored.n_added == model.num_timesteps
    observations, following = stored.observations[:n, 0], stored.next_observations[:n, 0]
    assert np.array_equal(following[:, 1], observations[:, 1] + 1)  # the second number counts steps
    np.testing.assert_allclose(stored.rewards[:n, 0], observations[:, 0] + stored.actions[:n, 0, 0], atol=1e-6)
    starts = np.flatnonzero(observations[:, 1] == 0)
    ends = np.append(starts[1:], n) - 1
    assert not np.delete(stored.dones[:n, 0], ends).any()
    lengths = ends - starts + 1
    assert not stored.dones[ends[lengths == 3], 0].all()  # some were truncated: the env itself would have gone on
    assert stored.dones[ends[lengths < 3], 0].all()


def test_all_kinds_act_and_are_logged():
    model = make()
    recorder = record_logs(model)
    model.learn(500, log_interval=1)
    assert set(model.replay_buffer.stored_kinds) == {BEST, PROBE, ACTOR, REFINED}
    logged = {name for _, values in recorder.entries for name in values}
    assert {"train/critic_loss", "train/actor_loss", "rollout/ep_rew_actor", "rollout/ep_rew_refined"} <= logged


def test_critic_updates_follow_the_env_steps():
    model = make(ConstantObs(length=5), critic_kwargs=dict(updates_per_step=0.5), train_freq=(1, "episode")).learn(60)
    assert model._n_critic_updates == 30


def test_noise_changes_actions_by_what_was_asked():
    model = make(critic_kwargs=dict(action_change=0.1)).learn(60)
    learner, layout = model.critic_learner, model.policy.layout
    weights = learner.critic.actor.detach()
    noisy = learner.noisy(weights, th.randn(layout.n_weights) / layout.fan_in().sqrt())
    observations = learner.normalizer(learner.transitions.latest_observations(256))
    change = (learner.critic.act(noisy, observations) - learner.critic.act(weights, observations)).square().mean().sqrt()
    assert 0.08 < change < 0.12


def test_refined_policies_are_worth_more_to_the_critic():
    model = make(critic_kwargs=dict(refine_steps=50, learning_rate=1e-3)).learn(100)
    learner = model.critic_learner
    weights = model.policy.generate_weights([0.0])[0]
    observations = learner.normalizer(learner.transitions.latest_observations(256))

    def value(weights):
        with th.no_grad():
            return learner.critic.critics.q1_forward(observations, learner.critic.act(weights, observations)).mean()

    assert value(learner.refine(weights)) > value(weights)


def test_neither_a_record_that_stands_nor_more_than_the_evaluators_expect_is_asked_for(tmp_path):
    model = make().learn(40)
    model.replay_buffer.add(model.policy.generate_weights([0.0])[0], 0.0, 1e3)  # one lucky episode
    model.best_return = 1e3
    model.learn(160, reset_num_timesteps=False)
    assert model.command_range[1] == model.replay_buffer.best_but_for_luck < 50
    assert model.next_commands(np.array([BEST]))[0] == model.best_return
    model.save(tmp_path / "model.zip")
    assert GoGePo.load(tmp_path / "model.zip").command_range == model.command_range
    expected = model.policy.predict_returns([model.best_return])[0]
    for earned in (expected - 1, expected + 1):
        model.highest_command = earned
        model.command = None
        assert model.command == pytest.approx(min(expected, earned), rel=1e-6)


# ---------------------------------------------------------------------- who acts


def filled(kinds, returns):
    buffer = PolicyBuffer(buffer_size=500, n_weights=1)
    for kind, episode_return in zip(kinds, returns, strict=True):
        buffer.add(th.zeros(1), 0.0, float(episode_return), kind)
    return buffer


def test_who_earns_gets_more():
    kinds = [BEST, ACTOR, REFINED, PROBE] * 15
    assert critic_share(filled(kinds, [kind == ACTOR for kind in kinds])) > 0.75
    assert MIN_SHARE < critic_share(filled(kinds, [kind == BEST for kind in kinds])) < 0.2
    assert critic_share(filled([BEST, ACTOR] * 30, [1, 1, 0, 0] * 15)) == pytest.approx(0.5, abs=0.05)


def test_only_the_latest_count():
    kinds = [BEST] * 100 + [BEST, ACTOR] * 30
    returns = [1000.0] * 100 + [kind == ACTOR for kind in kinds[100:]]
    assert critic_share(filled(kinds, returns)) > 0.8


def test_an_untried_critic_is_tried():
    assert critic_share(filled([BEST] * 60, range(60))) > 0.6


def test_kinds_are_drawn_by_their_shares():
    drawn = [choose_kind(0.8, 0.0, 1, number) for number in range(2000)]
    expected = [0.2, 0.8 * (1 - REFINED_SHARE), 0.8 * REFINED_SHARE]
    np.testing.assert_allclose([drawn.count(kind) / 2000 for kind in (BEST, ACTOR, REFINED)], expected, atol=0.04)
    assert drawn[:50] == [choose_kind(0.8, 0.0, 1, number) for number in range(50)]
    assert drawn[:50] != [choose_kind(0.8, 0.0, 2, number) for number in range(50)]


# ---------------------------------------------------------------------- guarantees


def test_results_do_not_depend_on_the_number_of_envs():
    models = [make(DummyVecEnv([Seeded] * n), n_candidates=3).learn(150) for n in (1, 4)]
    assert_equal(*models)


def test_workers_give_the_same():
    here = make(n_candidates=2).learn(60)
    there = make(n_candidates=2, rollout_backend="subprocess", rollout_workers=2).learn(60)
    assert_equal(here, there)


@pytest.mark.parametrize("make_env", [Seeded, lambda: TimeLimit(Match(), 10)], ids=["box", "discrete"])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, make_env):
    whole = make(make_env()).learn(200)
    half = make(make_env())
    half.learn(100)
    half.save(tmp_path / "model")
    half.save_replay_buffer(tmp_path / "buffer")
    resumed = GoGePo.load(tmp_path / "model", env=make_env())
    resumed.load_replay_buffer(tmp_path / "buffer")
    uninterrupted = make(make_env())
    uninterrupted.learn(100)
    for model in (resumed, uninterrupted):
        model.learn(100, reset_num_timesteps=False)
    assert_equal(resumed, uninterrupted)
    assert resumed.num_timesteps >= whole.num_timesteps - 10
    for name in ("critics_optimizer", "actor_optimizer"):
        states = [getattr(model.policy, name).state_dict()["state"][0] for model in (resumed, uninterrupted)]
        assert all(th.equal(states[0][key], states[1][key]) for key in ("exp_avg", "exp_avg_sq", "step"))


def test_a_buffer_without_steps_is_refused(tmp_path):
    GoGePo("MlpPolicy", Seeded(), **SMALL[GoGePo]).learn(30).save_replay_buffer(tmp_path / "buffer")
    model = make().learn(30)
    before = contents(model)
    with pytest.raises(ValueError, match="does not hold a replay buffer of this GoGePo"):
        model.load_replay_buffer(tmp_path / "buffer")
    assert all(th.equal(before[name], value) for name, value in contents(model).items())


def test_steps_that_are_not_finite_do_not_reach_the_critic():
    class Broken(Seeded):
        def step(self, action):
            observation, reward, terminated, truncated, info = super().step(action)
            if terminated and self.start > 0.5:
                observation = np.full_like(observation, np.nan)
            return observation, reward, terminated, truncated, info

    with pytest.warns(UserWarning, match="discarded"):
        model = make(Broken()).learn(200)
    assert model._discarded_num > 0
    assert np.isfinite(model.replay_buffer.transitions.next_observations).all()


@pytest.mark.parametrize(
    ("critic_kwargs", "message"),
    [
        (dict(gama=0.9), "critic_kwargs has no 'gama'; it may have net_arch"),
        (dict(gamma=1.5), r"critic_kwargs\['gamma'\] must be a number in \[0, 1\], got 1.5"),
        (dict(net_arch=[]), r"critic_kwargs\['net_arch'\] must be a non-empty list of integers >= 1, got \[\]"),
        (dict(layer_norm="yes"), r"critic_kwargs\['layer_norm'\] must be True or False, got 'yes'"),
        (dict(batch_size=0), r"critic_kwargs\['batch_size'\] must be an integer >= 1, got 0"),
        (dict(learning_rate=-1), r"critic_kwargs\['learning_rate'\] must be a finite number >= 0, got -1"),
        (dict(learning_rate=abs), r"critic_kwargs\['learning_rate'\] must be a number or a ConstantSchedule"),
        (dict(updates_per_step=-1), r"critic_kwargs\['updates_per_step'\] must be a finite number >= 0, got -1"),
        ([1], "critic_kwargs must be a dict"),
    ],
)
def test_bad_critic_kwargs(critic_kwargs, message):
    with pytest.raises(ValueError, match=message):
        GoGePo("MlpPolicy", Seeded(), use_critic=True, critic_kwargs=critic_kwargs)


def test_settings_are_complete():
    """All that the docstring says can be set, and no more."""
    documented = [
        line.split()[1].rstrip(":") for line in CriticSettings.__doc__.splitlines() if line.strip().startswith(":param")
    ]
    assert documented == list(CriticSettings._fields)


def test_policies_beside_a_critic_have_their_own_defaults(tmp_path):
    """They give way to what the user says, and are saved."""
    policy_kwargs = dict(net_arch=[8], activation_fn=th.nn.ELU)
    plain, given = make(), make(critic_kwargs=dict(layer_norm=True), policy_kwargs=policy_kwargs)
    given.save(tmp_path / "given")
    loaded = GoGePo.load(tmp_path / "given")
    for model, activation, n_norms in [(plain, th.nn.ReLU, 0), (given, th.nn.ELU, 2), (loaded, th.nn.ELU, 2)]:
        assert isinstance(model.policy.activation, activation)
        assert sum(isinstance(module, th.nn.LayerNorm) for module in model.policy.critic.critics.modules()) == n_norms


@pytest.mark.parametrize(("use_critic", "given", "expected"), [(False, None, 0.5), (True, None, 0.0), (True, 0.25, 0.25)])
def test_probing_begins_at_once_beside_a_critic(use_critic, given, expected):
    assert make(use_critic=use_critic, probe_after=given).probe_after == expected


def test_says_where_it_would_help(capsys):
    arguments = {**SMALL[GoGePo], "verbose": 1}
    GoGePo("MlpPolicy", "HalfCheetah-v5", **arguments).learn(1)
    assert "HalfCheetah-v5 is learned in far fewer env steps with use_critic=True" in capsys.readouterr().out
    GoGePo("MlpPolicy", "HalfCheetah-v5", use_critic=True, critic_kwargs=CRITIC, **arguments).learn(1)
    GoGePo("MlpPolicy", "MountainCarContinuous-v0", **{**arguments, "n_candidates": 1}).learn(1)
    assert "use_critic=True" not in capsys.readouterr().out


def test_generator_follows_to_the_end():
    """Its learning rate stays, unless the user gives one."""
    for given, expected in [({}, 5e-4), ({"learning_rate": 0.1}, 0.1)]:
        model = GoGePo("MlpPolicy", Seeded(), use_critic=True, critic_kwargs=CRITIC, device="cpu", **given)
        assert [model.lr_schedule(progress) for progress in (1.0, 0.0)] == [expected, expected]
