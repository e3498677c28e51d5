"""Stages, the map of policies, the ranking of probing states, and the page that shows them."""

import re
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch as th
from matplotlib.figure import Figure
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor

from sb3_gogepo import UDRL, UDRLPG, GoGePo
from sb3_gogepo.analysis import Stage, StageCallback, load_stages, map_policies, rank_probing_states, save_stages, write_report
from sb3_gogepo.analysis.__main__ import main
from sb3_gogepo.analysis.plots import plot_command_sweep, plot_policy_map
from sb3_gogepo.analysis.policy_map import GeneratorPath, PolicyMap
from sb3_gogepo.base.command_sweep import CommandSweep
from tests.conftest import SMALL
from tests.toy_envs import Seeded

mpl.use("Agg")


def make(algorithm=GoGePo, **overrides):
    return algorithm("MlpPolicy", Seeded(), **{**SMALL[algorithm], **overrides})


def test_stages_hold_what_the_generator_generated(tmp_path):
    model, callback = make(), StageCallback(every=40, n_commands=3, path=tmp_path / "stages")
    first = model.policy.generate_weights([0.0])
    model.learn(100, callback=callback)
    stages = load_stages(tmp_path / "stages.pt")
    assert len(stages) == len(callback.stages) >= 3
    assert th.equal(stages[0].policy_weights, first)
    assert all(40 <= two.timesteps - one.timesteps <= 48 for one, two in pairwise(stages[:-1]))
    last = stages[-1]
    assert last.timesteps == model.num_timesteps
    np.testing.assert_array_equal(last.commands, np.linspace(model.worst_return, model.best_return, 3))
    assert th.equal(last.policy_weights, model.policy.generate_weights(last.commands))


def test_recording_changes_nothing():
    plain = make().learn(60)
    recorded = make().learn(60, callback=StageCallback(every=10))
    assert th.equal(plain.policy.generate_weights([1.0]), recorded.policy.generate_weights([1.0]))


def test_stages_need_a_generator():
    with pytest.raises(ValueError, match=r"needs an algorithm that generates policies, got UDRL"):
        make(UDRL).learn(10, callback=StageCallback(every=10))


def test_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"every must be"):
        StageCallback(every=0)
    th.save({"a": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"holds no stages"):
        load_stages(tmp_path / "other.pt")


def linear_model():
    """Policies a = tanh(w . s + b) on two observations; probing states e1 and e2."""
    policy_kwargs = dict(net_arch=[], generator_net_arch=[8], n_evaluators=1, n_probing_states=2, evaluator_net_arch=[])
    model = make(policy_kwargs=policy_kwargs)
    with th.no_grad():
        model.policy.evaluator.probing_states.copy_(th.eye(2).unsqueeze(0))
    return model


def test_map_is_the_plane_of_the_probing_actions():
    """Four policies act differently in e1 only, so all variance lies along one axis, and points keep their distances."""
    model = linear_model()
    firsts = [-0.6, -0.2, 0.2, 0.6]
    for i, first in enumerate(firsts):
        weights = th.atanh(th.tensor([first, 0.5, 0.0]))
        model.replay_buffer.add(weights, command=0.0, episode_return=float(i))
    stage = Stage(10, np.zeros(1), th.atanh(th.tensor([[0.0, 0.9, 0.0]])))
    result = map_policies(model, [stage])
    assert result.probing == "learned"
    assert result.explained == pytest.approx((1.0, 0.0), abs=1e-6)
    assert result.returns.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(result.points[:, 0] * np.sign(result.points[-1, 0]), firsts, atol=1e-6)
    (path,) = result.paths
    np.testing.assert_allclose(path.points[0, 0], 0, atol=1e-6)  # the other axis is arbitrary: no variance there


def test_map_without_an_evaluator_uses_random_states():
    model = make(UDRLPG).learn(60)
    result = map_policies(model)
    assert result.probing == "random"
    assert result.points.shape == (len(model.replay_buffer), 2)


def test_map_of_a_single_probing_action():
    policy_kwargs = dict(net_arch=[], generator_net_arch=[8], n_evaluators=1, n_probing_states=1, evaluator_net_arch=[])
    result = map_policies(make(policy_kwargs=policy_kwargs).learn(60))
    assert result.points.shape[1] == 2
    assert (result.points[:, 1] == 0).all()
    assert result.explained == pytest.approx((1.0, 0.0))


def test_map_of_few_policies_and_too_many():
    model = make()
    with pytest.raises(ValueError, match=r"must hold at least 3 policies, got 0"):
        map_policies(model)
    model.learn(200)
    assert len(map_policies(model, max_policies=7).points) == 7


def test_map_keeps_apart_what_acts_in_opposite_ways():
    """Only the difference of the two actions varies: its direction's components have the sum 0."""
    model = linear_model()
    for i, first in enumerate([-0.6, 0.0, 0.6]):
        weights = th.atanh(th.tensor([first, -first, 0.0]))
        model.replay_buffer.add(weights, command=0.0, episode_return=float(i))
    result = map_policies(model)
    assert result.explained == pytest.approx((1.0, 0.0), abs=1e-6)
    np.testing.assert_allclose(np.abs(result.points[:, 0]), [0.6 * np.sqrt(2), 0, 0.6 * np.sqrt(2)], atol=1e-6)


def test_sweep_is_drawn_beside_the_identity_and_the_prediction():
    sweep = CommandSweep(np.array([0.0, 10.0]), np.array([2.0, 8.0]), std_returns=np.ones(2), mean_lengths=np.ones(2))
    ax = Figure().subplots()
    plot_command_sweep(ax, sweep, predicted=np.array([0.5, 9.0]))
    drawn = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert drawn["achieved = commanded"] == [[0, 0], [10, 10]]
    assert drawn["predicted by the evaluator"] == [[0, 0.5], [10, 9]]
    (errorbars,) = ax.containers
    assert errorbars[0].get_xydata().tolist() == [[0, 2], [10, 8]]


def test_map_is_drawn_with_returns_as_colors():
    points, returns = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), np.array([7.0, -1.0, 3.0])
    path = GeneratorPath(50_000, np.zeros(2), np.array([[0.0, 0.0], [1.0, 1.0]]))
    ax = Figure().subplots()
    plot_policy_map(ax, PolicyMap(points, returns, [path], (0.6, 0.3), "learned"))
    dots = ax.collections[0]
    assert dots.get_array().tolist() == [-1, 3, 7]  # the best on top
    assert dots.get_offsets().tolist() == [[2, 3], [4, 5], [0, 1]]
    assert ax.lines[0].get_xydata().tolist() == path.points.tolist()
    assert ax.lines[0].get_label() == "generator, 50,000 steps"


def test_influence_of_several_evaluators_and_actions():
    """Two linear evaluators of three states and two actions: a state's share is the size of its weights."""
    policy_kwargs = dict(net_arch=[], generator_net_arch=[8], n_evaluators=2, n_probing_states=3, evaluator_net_arch=[])
    model = GoGePo("MlpPolicy", "CartPole-v1", **{**SMALL[GoGePo], "policy_kwargs": policy_kwargs})
    weights = th.arange(1.0, 13.0).reshape(2, 6, 1)  # evaluator, (state, action), return
    with th.no_grad():
        model.policy.evaluator.predictor[0].weight.copy_(weights)
    ranked = rank_probing_states(model, np.array([0.0]))
    np.testing.assert_allclose(ranked.influence, np.array([23, 19, 15, 11, 7, 3]) / 78, rtol=1e-6)
    states = model.policy.evaluator.probing_states.detach().flatten(0, 1).flip(0)
    np.testing.assert_array_equal(ranked.states, states)


def test_probing_states_are_ranked_by_the_gradient():
    """V = 1 * a(e1) - 3 * a(e2): the second state has three quarters of the influence."""
    model = linear_model()
    with th.no_grad():
        model.policy.evaluator.predictor[0].weight.copy_(th.tensor([[[1.0], [-3.0]]]))
    ranked = rank_probing_states(model, np.array([0.0, 1.0]))
    np.testing.assert_allclose(ranked.influence, [0.75, 0.25])
    np.testing.assert_array_equal(ranked.states, [[0, 1], [1, 0]])
    with pytest.raises(ValueError, match=r"must be a GoGePo with probing states, got UDRLPG"):
        rank_probing_states(make(UDRLPG), np.zeros(1))


def assert_self_contained(page):
    text = page.read_text()
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "http" not in text
    return text


def test_command_line(tmp_path, capsys):
    """CartPole, as the command line makes the env by its id."""
    model = GoGePo("MlpPolicy", "CartPole-v1", **SMALL[GoGePo])
    evaluate = EvalCallback(
        Monitor(model.env.envs[0].unwrapped), n_eval_episodes=2, eval_freq=100, verbose=0, log_path=tmp_path
    )
    model.learn(300, callback=[StageCallback(every=100, path=tmp_path / "stages.pt"), evaluate])
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "replay_buffer.pt")
    words = [str(tmp_path / "model.zip"), "--env", "CartPole-v1", "--n-commands", "3", "--n-eval-episodes", "2"]
    main([*words, "--n-films", "0", "--out", str(tmp_path / "report")])
    page = tmp_path / "report" / "index.html"
    assert capsys.readouterr().out.strip() == str(page)
    text = assert_self_contained(page)
    assert text.count("data:image/png;base64,") == 4
    assert "No films: n_films=0." in text
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"index.html", "commands.png", "map.png", "probing_states.png", "learning_curve.png"}


def test_command_line_errors(tmp_path, capsys):
    UDRL("MlpPolicy", "CartPole-v1", **SMALL[UDRL]).learn(20).save(tmp_path / "model.zip")
    (tmp_path / "text.npz").write_text("no array")
    np.savez(tmp_path / "uneven.npz", timesteps=np.zeros(3), results=np.zeros((2, 5)))
    for words, message in (
        ([], "was saved by UDRL, not by GoGePo"),
        (["--algo", "udrl", "--stages", "nowhere.pt"], "there is no file 'nowhere.pt'"),
        (["--algo", "udrl", "--n-commands", "-2"], "n_commands must be an integer >= 1, got -2"),
        (["--algo", "udrl", "--evaluations", str(tmp_path / "model.zip")], "holds no evaluations of SB3's EvalCallback"),
        (["--algo", "udrl", "--evaluations", str(tmp_path / "text.npz")], "text.npz' holds no evaluations of SB3's"),
        (["--algo", "udrl", "--evaluations", str(tmp_path / "uneven.npz")], "got shapes (3,) and (2, 5)"),
    ):
        with pytest.raises(SystemExit):
            main([str(tmp_path / "model.zip"), "--env", "CartPole-v1", *words])
        assert message in capsys.readouterr().err


def test_report_says_what_is_missing(tmp_path):
    model = make(UDRL).learn(60)
    text = assert_self_contained(write_report(model, tmp_path, n_commands=2, n_eval_episodes=1, title="A & B"))
    assert "A &amp; B" in text
    assert text.count("data:image/png;base64,") == 1
    assert "UDRL generates no policies" in text
    assert "This UDRL has no learned probing states." in text
    assert "Needs evaluations.npz" in text
    with pytest.raises(ValueError, match=r"model must have been trained"):
        write_report(make(), tmp_path)


def test_stages_round_trip(tmp_path):
    stages = [Stage(0, np.zeros(1), th.zeros(1, 3)), Stage(7, np.ones(2), th.ones(2, 3))]
    save_stages(tmp_path / "a.pt", stages)
    for one, two in zip(load_stages(tmp_path / "a.pt"), stages, strict=True):
        assert one.timesteps == two.timesteps
        assert np.array_equal(one.commands, two.commands)
        assert th.equal(one.policy_weights, two.policy_weights)
