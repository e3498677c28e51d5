"""Labels stand for the hyperparameters that the files say."""

import pytest

from benchmarks.run.tracks import ablations, defaults_of, labels, resolve, tracks
from sb3_gogepo import presets

ENVS = ["Swimmer-v3", "Hopper-v3", "InvertedPendulum-v2", "MountainCarContinuous-v0"]


@pytest.mark.parametrize(("track", "label"), [(track, label) for track in ("paper", "ablations") for label in labels(track)])
def test_every_label_resolves(track, label):
    for env in ENVS:
        algorithm = resolve(track, label, env)
        assert algorithm.hyperparams["policy"] == "MlpPolicy"
        assert "n_timesteps" not in algorithm.hyperparams


def test_defaults_are_those_of_the_class_and_its_policy():
    defaults = defaults_of("gogepo")
    assert defaults["batch_size"] == 20
    assert defaults["learning_rate"] == "LinearSchedule(start=0.0005, end=0.0, end_fraction=1.0)"
    assert defaults["policy_kwargs"]["net_arch"] == [64, 64]  # of the base class
    assert defaults["policy_kwargs"]["n_evaluators"] == 5
    assert defaults_of("sac") == {}


def test_default_is_the_default():
    of_class = {"use_critic": False}  # said, since presets of some envs differ
    assert resolve("paper", "gogepo", "Swimmer-v3") == ("gogepo", {"policy": "MlpPolicy", "n_envs": 1, **of_class})
    assert of_class.items() <= defaults_of("gogepo").items()
    assert resolve("paper", "gogepo", "Hopper-v3").hyperparams["alive_bonus_offset"] == -1


@pytest.mark.parametrize("env", ["Hopper-v2", "Walker2d-v4", "Ant-v5", "Humanoid-v3"])
def test_all_who_learn_from_episodes_do_without_the_bonus(env):
    offsets = {resolve("paper", label, env).hyperparams["alive_bonus_offset"] for label in ("ars", "gogepo", "udrl", "udrlpg")}
    assert offsets == {-5 if env.startswith("Humanoid") else -1}


def test_paper_preset_has_the_envs_range():
    hyperparams = resolve("paper", "gogepo-paper", "Hopper-v3").hyperparams
    assert hyperparams["return_range"] == [-100, 3000]
    assert hyperparams["learning_rate"] == presets.PAPER["learning_rate"]
    assert presets.PAPER["return_range"] == (-100.0, 365.0)  # the preset itself is as it was
    with pytest.raises(
        ValueError, match=r"env must be one of Swimmer, .*, whose return_range 'gogepo-paper' knows, got 'Ant-"
    ):
        resolve("paper", "gogepo-paper", "Ant-v3")


def test_variant_changes_its_base():
    base = resolve("paper", "gogepo-paper", "Swimmer-v3").hyperparams
    variant = resolve("ablations", "gogepo-paper-increment-0", "Swimmer-v3").hyperparams
    assert base["command_increment"] == 20
    assert variant == {**base, "command_increment": 0.0}


def test_every_ablation_changes_something():
    for ablation in ablations().values():
        for label, variant in ablation["variants"].items():
            base = resolve("paper", variant["base"], "Swimmer-v3")
            assert resolve("ablations", label, "Swimmer-v3") != base
            assert set(ablation["bases"]) <= set(tracks()["paper"])


def test_bases_of_ablations_are_those_of_the_track_paper():
    for label in ("gogepo-no-probes", "gogepo-paper"):
        assert label in labels("ablations")
        assert resolve("ablations", label, "Hopper-v3") == resolve("paper", label, "Hopper-v3")


def test_peers_have_2x256():
    for label in ("sac", "td3", "ddpg", "ars"):
        assert resolve("paper", label, "Swimmer-v3").hyperparams["policy_kwargs"] == {"net_arch": [256, 256]}


def test_tuned_is_rl_zoos():
    pytest.importorskip("rl_zoo3", reason="RL Zoo is not installed: pip install -e '.[zoo]'")
    hyperparams = resolve("tuned", "td3", "Swimmer-v3").hyperparams  # under the id Swimmer-v4
    assert hyperparams["gamma"] == 0.9999
    with pytest.raises(ValueError, match=r"env must be one that RL Zoo has tuned sac for, got 'InvertedPendulum-v2'"):
        resolve("tuned", "sac", "InvertedPendulum-v2")


@pytest.mark.parametrize(
    ("track", "label", "message"),
    [
        ("best", "sac", r"track must be one of paper, tuned, ablations, got 'best'"),
        ("paper", "ppo", r"algo must be one of gogepo, .* on track 'paper', got 'ppo'"),
        ("tuned", "gogepo-uniform", r"algo must be one of .* on track 'tuned', got 'gogepo-uniform'"),
        ("ablations", "ars", r"algo must be one of gogepo-no-probes, gogepo-paper, .* on track 'ablations', got 'ars'"),
    ],
)
def test_unknown_names(track, label, message):
    with pytest.raises(ValueError, match=message):
        resolve(track, label, "Swimmer-v3")
