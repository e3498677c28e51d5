"""Optuna search spaces for ``rl_zoo3 train -optimize``, around each algorithm's defaults."""

from __future__ import annotations

from typing import Any


def sample_gogepo_params(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters of GoGePo.

    :param trial: an ``optuna.Trial``.
    :param n_actions: unused; RL Zoo passes it to every sampler, as well as the next two.
    :param n_envs: unused.
    :param additional_args: unused.
    """
    trial.suggest_float("learning_rate", 1e-6, 1e-3, log=True)
    trial.suggest_float("evaluator_learning_rate", 1e-4, 1e-2, log=True)
    trial.suggest_int("evaluator_gradient_steps", 2, 20)
    trial.suggest_int("generator_gradient_steps", 2, 20)
    trial.suggest_int("batch_size_pow", 3, 7)  # 8 ... 128 policies
    trial.suggest_float("recency", 0.0, 2.0)
    trial.suggest_float("weight_noise_std", 0.5, 4.0, log=True)
    trial.suggest_float("final_weight_noise_std", 0.1, 1.0, log=True)
    trial.suggest_float("elite_fraction", 0.0, 1.0)
    trial.suggest_float("command_increment_std", 0.0, 3.0)
    trial.suggest_categorical("n_probing_states", [20, 50, 100, 200])
    hyperparams = convert_gogepo_params(trial.params)
    trial.set_user_attr("batch_size", hyperparams["batch_size"])
    return hyperparams


def convert_gogepo_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """Turn a trial's stored parameters into constructor arguments of GoGePo."""
    hyperparams = dict(sampled_params)
    hyperparams["batch_size"] = 2 ** hyperparams.pop("batch_size_pow")
    hyperparams["policy_kwargs"] = {"n_probing_states": hyperparams.pop("n_probing_states")}
    return hyperparams
