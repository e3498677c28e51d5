"""Train GoGePo on a MuJoCo task, then ask the one generator for policies of many returns.

``python -m sb3_gogepo.demo`` writes ``<folder>/gogepo_<env>.zip`` and a picture beside it.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import cast

import gymnasium as gym
import matplotlib
import numpy as np
import torch as th
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_gogepo import GoGePo
from sb3_gogepo.analysis import plot_command_sweep, plot_learning_curve
from sb3_gogepo.envs import make_env


def main(arguments: list[str] | None = None) -> float:
    """Run the demo; returns the mean return of the final policy."""
    parser = argparse.ArgumentParser(prog="python -m sb3_gogepo.demo", description=__doc__)
    parser.add_argument("--env", default="InvertedPendulum-v4", help="Gymnasium id (default: %(default)s)")
    parser.add_argument("--total-timesteps", type=float, default=100_000, help="env steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where the results go (default: %(default)s)")
    options = parser.parse_args(arguments)
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    warnings.filterwarnings("ignore", message=".*is out of date.*")  # Gymnasium on the papers' env versions
    th.set_num_threads(1)  # the networks are small: more threads only wait for each other
    try:
        eval_env = Monitor(cast(gym.Env, make_env(options.env)))
    except ValueError as error:
        parser.error(str(error))
    options.folder.mkdir(parents=True, exist_ok=True)
    stem = options.folder / f"gogepo_{options.env}"

    eval_callback = EvalCallback(
        eval_env,
        n_eval_episodes=3,
        eval_freq=max(int(options.total_timesteps) // 25, 1),
        log_path=str(options.folder),
        verbose=0,
    )
    model = GoGePo(options.env, seed=options.seed)
    print(f"Training GoGePo on {options.env} for {int(options.total_timesteps):,} env steps.")
    model.learn(options.total_timesteps, callback=eval_callback, progress_bar=True)
    model.save(f"{stem}.zip")
    mean, std = evaluate_policy(model, eval_env, n_eval_episodes=10)
    print(f"Best command {model.command:.0f}: mean return {mean:.1f} +- {std:.1f} over 10 episodes.")

    print("Asking the same generator for other returns:")
    sweep = model.evaluate_commands(np.linspace(*model.command_range, 13), n_eval_episodes=5)
    print(f"{'commanded':>10} {'achieved':>10} {'std':>7}")
    for command, achieved, spread in zip(sweep.commands, sweep.mean_returns, sweep.std_returns, strict=True):
        print(f"{command:10.0f} {achieved:10.1f} {spread:7.1f}")

    print(sweep.summary())

    evaluations = np.load(options.folder / "evaluations.npz")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    plot_learning_curve(left, evaluations["timesteps"], evaluations["results"], title=f"GoGePo on {options.env}: learning")
    plot_command_sweep(right, sweep, predicted=model.policy.predict_returns(sweep.commands))
    figure.savefig(f"{stem}.png", dpi=130)
    print(f"Model:   {stem}.zip\nPicture: {stem}.png")
    return float(np.mean(mean))


if __name__ == "__main__":
    main()
