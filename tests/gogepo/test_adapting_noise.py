"""Noise that adapts: ``weight_noise_range``."""

import numpy as np
import pytest
import torch as th

from sb3_gogepo import GoGePo
from sb3_gogepo.gogepo.gogepo import FREE_SHARE, N_PARENTS, NOISE_CHANGE
from tests.helpers import assert_same_buffer
from tests.toy_envs import Seeded


def store(model, noise_stds, returns):
    for noise_std, episode_return in zip(noise_stds, returns, strict=True):
        model.replay_buffer.add(th.zeros(model.policy.layout.n_weights), 0.0, episode_return, noise_std)


def draw(model, n=4000):
    return np.array([model.next_noise_std(np.random.default_rng(i)) for i in range(n)])


def test_the_first_policies_get_the_given_noise(make_model):
    model = make_model(weight_noise_std=1.5, weight_noise_range=(0.1, 2.0))
    store(model, [0.1] * (N_PARENTS - 1), range(N_PARENTS - 1))
    assert (draw(model, 10) == 1.5).all()
    store(model, [0.1], [0])
    assert (draw(model, 10) != 1.5).all()


def test_the_best_policies_pass_their_noise_on(make_model):
    model = make_model(buffer_size=100, weight_noise_std=1.5, weight_noise_range=(0.001, 1000.0))
    store(model, [5.0] * N_PARENTS + [0.02] * 20, [10.0] * N_PARENTS + [0.0] * 20)
    ratios = np.log(draw(model) / 5.0)
    near = np.abs(ratios - NOISE_CHANGE[0]) < 4 * NOISE_CHANGE[1]
    free_near = 8 * NOISE_CHANGE[1] / np.log(1000 / 0.001)  # drawn from the whole range, and near by chance
    assert near.mean() == pytest.approx(1 - FREE_SHARE * (1 - free_near), abs=0.02)
    assert np.median(ratios[near]) == pytest.approx(NOISE_CHANGE[0], abs=0.03)


def test_noise_stays_in_its_range(make_model):
    model = make_model(weight_noise_std=1.5, weight_noise_range=(0.4, 0.5))
    store(model, [0.0] * 5 + [100.0] * 5, range(10))
    noise_stds = draw(model, 200)
    assert noise_stds.min() == 0.4
    assert noise_stds.max() == 0.5
    assert len(set(noise_stds)) > 20


def test_candidates_differ_in_noise_and_the_buffer_remembers_it(make_model):
    model = make_model(buffer_size=100, weight_noise_std=1.5, weight_noise_range=(0.1, 2.0), n_candidates=4)
    model.learn(200)
    stored = model.replay_buffer.state_dict()["noise_stds"].numpy()
    assert len(stored) > 2 * N_PARENTS
    n_first = -(-N_PARENTS // 4) * 4
    assert (stored[:n_first] == 1.5).all()
    assert (stored[n_first:] != 1.5).all()
    assert len(set(stored[n_first : n_first + 4])) > 1  # within an iteration


def test_an_interrupted_run_goes_on_with_the_same_noise(make_model, tmp_path):
    arguments = dict(buffer_size=100, weight_noise_range=(0.1, 2.0), n_candidates=1)
    whole = make_model(**arguments).learn(120)
    part = make_model(**arguments).learn(60)
    part.save(tmp_path / "part.zip")
    part.save_replay_buffer(tmp_path / "buffer")
    resumed = GoGePo.load(tmp_path / "part.zip", env=Seeded())
    assert resumed.weight_noise_range == (0.1, 2.0)
    resumed.load_replay_buffer(tmp_path / "buffer")
    resumed.learn(120 - resumed.num_timesteps, reset_num_timesteps=False)
    assert len(whole.replay_buffer) > 2 * N_PARENTS
    assert_same_buffer(resumed, whole)
    assert np.array_equal(resumed.replay_buffer.noise_stds, whole.replay_buffer.noise_stds)
