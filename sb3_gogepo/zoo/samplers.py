"""Optuna search spaces for ``rl_zoo3 train -optimize``, around each algorithm's defaults."""

from __future__ import annotations

from typing import Any


def sample_gogepo_params(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters of GoGePo.

    :param trial: an ``optuna.Trial``.
    :param n_actions: unused, but RL Zoo passes it to every sampler.
    :param n_envs: unused, but RL Zoo passes it to every sampler.
    :param additional_args: unused, but RL Zoo passes it to every sampler.
    """
    trial.suggest_float("learning_rate", 1e-6, 1e-3, log=True)
    trial.suggest_float("evaluator_learning_rate", 1e-4, 1e-2, log=True)
    trial.suggest_int("evaluator_gradient_steps", 2, 20)
    trial.suggest_int("generator_gradient_steps", 2, 20)
    trial.suggest_int("batch_size_pow", 3, 7)  # 8 ... 128 policies
    trial.suggest_float("recency", 0.0, 2.0)
    trial.suggest_float("weight_noise_std", 0.5, 4.0, log=True)
    trial.suggest_float("final_weight_noise_std", 0.05, 0.5, log=True)
    trial.suggest_float("elite_fraction", 0.0, 1.0)
    trial.suggest_float("imitation_coef", 0.01, 10.0, log=True)
    trial.suggest_categorical("n_warm_up_episodes", [0, 16, 64, 256])
    trial.suggest_categorical("prune_after", [0.1, 0.25, 0.5, 1.0])  # 1: never
    trial.suggest_float("command_increment_std", 0.0, 1.0)
    trial.suggest_categorical("n_evaluators", [1, 2, 5, 10])
    trial.suggest_categorical("n_probing_states", [5, 10, 20, 50])
    hyperparams = convert_gogepo_params(trial.params)
    trial.set_user_attr("batch_size", hyperparams["batch_size"])
    return hyperparams


def convert_gogepo_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """Turn a trial's stored parameters into constructor arguments of GoGePo."""
    hyperparams = _decode(sampled_params)
    hyperparams["policy_kwargs"] = {name: hyperparams.pop(name) for name in ("n_evaluators", "n_probing_states")}
    return hyperparams


def sample_udrlpg_params(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters of UDRLPG; see :func:`sample_gogepo_params` for the parameters."""
    trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)
    trial.suggest_int("gradient_steps", 5, 100, log=True)
    trial.suggest_int("batch_size_pow", 3, 7)  # 8 ... 128 policies
    trial.suggest_int("bucket_size", 1, 20)
    trial.suggest_float("rank_scale", 0.05, 1.0, log=True)
    trial.suggest_float("weight_noise_std", 0.3, 3.0, log=True)
    trial.suggest_float("final_weight_noise_std", 0.05, 0.5, log=True)
    trial.suggest_float("command_increment_std", 0.0, 1.0)
    hyperparams = convert_udrlpg_params(trial.params)
    trial.set_user_attr("batch_size", hyperparams["batch_size"])
    return hyperparams


def convert_udrlpg_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """Turn a trial's stored parameters into constructor arguments of UDRLPG."""
    return _decode(sampled_params)


def sample_udrl_params(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters of UDRL, from the paper's ranges where it has any.

    See :func:`sample_gogepo_params` for the parameters.
    """
    trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    trial.suggest_categorical("batch_size", [256, 512, 768, 1024, 1536, 2048])
    trial.suggest_categorical("last_few", [25, 50, 75, 100])
    trial.suggest_float("command_increment_std", 1.0, 20.0, log=True)
    trial.suggest_categorical("n_candidates", [10, 20, 30, 40])
    trial.suggest_int("gradient_steps", 100, 300, step=50)
    trial.suggest_categorical("n_warm_up_episodes", [10, 30, 50])
    trial.suggest_int("buffer_size", 300, 700, step=100)
    trial.suggest_categorical("net_arch", ["64", "64_64", "64_128_128", "256_256"])
    return convert_udrl_params(trial.params)


def convert_udrl_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """Turn a trial's stored parameters into constructor arguments of UDRL."""
    hyperparams = _decode(sampled_params)
    hyperparams["train_freq"] = (hyperparams["n_candidates"], "episode")
    hyperparams["policy_kwargs"] = {"net_arch": hyperparams.pop("net_arch")}
    return hyperparams


def sample_gpim_params(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters of GPIM; see :func:`sample_gogepo_params` for the parameters."""
    trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True)
    trial.suggest_int("batch_size_pow", 6, 9)  # 64 ... 512 steps
    trial.suggest_int("train_freq", 1, 8)
    trial.suggest_float("ent_coef", 0.01, 1.0, log=True)
    trial.suggest_float("one_minus_gamma", 0.003, 0.1, log=True)
    trial.suggest_float("tau", 0.001, 0.1, log=True)
    trial.suggest_categorical("n_latents", [10, 20, 50, 100])
    trial.suggest_categorical("net_arch", ["64_64", "256_256"])
    hyperparams = convert_gpim_params(trial.params)
    trial.set_user_attr("batch_size", hyperparams["batch_size"])
    trial.set_user_attr("gamma", hyperparams["gamma"])
    return hyperparams


def convert_gpim_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """Turn a trial's stored parameters into constructor arguments of GPIM."""
    hyperparams = _decode(sampled_params)
    hyperparams["gamma"] = 1 - hyperparams.pop("one_minus_gamma")
    net_arch = hyperparams.pop("net_arch")
    hyperparams["policy_kwargs"] = {
        "n_latents": hyperparams.pop("n_latents"),
        "net_arch": net_arch,
        "discriminator_net_arch": net_arch,
    }
    return hyperparams


def _decode(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """A copy with what Optuna draws as a power of two or as a string in the form that constructors take."""
    hyperparams = dict(sampled_params)
    if "batch_size_pow" in hyperparams:
        hyperparams["batch_size"] = 2 ** hyperparams.pop("batch_size_pow")
    if "net_arch" in hyperparams:
        hyperparams["net_arch"] = [int(size) for size in hyperparams["net_arch"].split("_")]
    return hyperparams
