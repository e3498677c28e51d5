"""Learning curves of single algorithms: one CSV a run in ``benchmarks/results/learning_curves``, and the docs' tables.

``python -m benchmarks.studies.learning_curves run udrlpg InvertedPendulum-v4 --steps 100000 --seeds 1 2 3`` trains and writes;
``python -m benchmarks.studies.learning_curves tables`` writes a table of all there is for each algorithm. Everything not
given is at the class's defaults; another value is given as ``--set command_increment_std=1``, those of a preset as
``--set preset=UDRL_LUNAR_LANDER``.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import sb3_gogepo
from benchmarks.report import tables
from sb3_gogepo import UDRL, UDRLPG, GoGePo, presets
from sb3_gogepo.base.command_algorithm import CommandAlgorithm

ALGORITHMS: dict[str, type[CommandAlgorithm]] = {"gogepo": GoGePo, "udrl": UDRL, "udrlpg": UDRLPG}
#: UDRL's episodes of an iteration run side by side, which changes the speed only
N_ENVS = {"gogepo": 1, "udrl": 15, "udrlpg": 1}
RESULTS = Path(__file__).parents[1] / "results" / "learning_curves"
TABLES = Path(__file__).parents[2] / "docs" / "learning_curves"
COLUMNS = ("num_timesteps", "episodes", "train_return", "command", "eval_return", "eval_std", "eval_episodes")


class Curve(BaseCallback):
    """Evaluates between iterations, every ``eval_freq`` env steps, in envs of its own; ``rows`` has one entry each time.

    ``train_return`` is the mean of the last 100 training episodes that were not pruned; ``eval_return`` is that of
    ``evaluate_policy``, which acts without noise (greedily) on the best command so far.
    """

    def __init__(self, env_id: str, seed: int, eval_freq: int) -> None:
        super().__init__()
        self.eval_env = make_vec_env(env_id, n_envs=5, seed=1000 + seed)
        self.eval_freq = self.next_eval = eval_freq
        self.rows: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self.next_eval:
            self.next_eval = (self.num_timesteps // self.eval_freq + 1) * self.eval_freq
            self.evaluate(n_episodes=10)

    def evaluate(self, n_episodes: int) -> None:
        """Append a row."""
        model: Any = self.model
        mean, std = evaluate_policy(model, self.eval_env, n_eval_episodes=n_episodes)
        train_return = np.mean([info["r"] for info in model.ep_info_buffer])
        values: tuple[Any, ...] = (model.num_timesteps, model._episode_num, train_return, model.command, mean, std, n_episodes)
        self.rows.append(dict(zip(COLUMNS, (round(float(value), 3) for value in values), strict=True)))


def run(name: str, env_id: str, steps: int, seed: int, eval_freq: int, settings: list[str]) -> Path:
    """Train one seed and write its curve; the last row is the final model's, 20 episodes."""
    env = make_vec_env(env_id, n_envs=N_ENVS[name])
    curve = Curve(env_id, seed, eval_freq)
    model = ALGORITHMS[name]("MlpPolicy", env, seed=seed, device="cpu", **parse(settings))
    model.learn(steps, callback=curve, log_interval=None)
    curve.evaluate(n_episodes=20)
    path = RESULTS / ("_".join([name, env_id, str(steps), f"seed{seed}", *settings]) + ".csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        command = f"python -m benchmarks.studies.learning_curves run {name} {env_id} --steps {steps} --seeds {seed}"
        command += f" --eval-freq {eval_freq}"
        file.write(f"# {' '.join([command, *(['--set'] if settings else []), *settings])}\n# {versions()}\n")
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(curve.rows)
    return path


def parse(settings: list[str]) -> dict[str, Any]:
    """``["command_increment_std=1", "extrapolate_horizon=false"]`` -> constructor arguments; values are JSON."""
    pairs = dict(setting.split("=", maxsplit=1) for setting in settings)
    preset = getattr(presets, pairs.pop("preset")) if "preset" in pairs else {}
    return preset | {name: json.loads(value) for name, value in pairs.items()}


def versions() -> str:
    """What a result may depend on."""
    modules = (sb3_gogepo, th, stable_baselines3, gymnasium, np)
    return ", ".join(
        [f"{module.__name__} {module.__version__}" for module in modules] + [f"Python {platform.python_version()}"]
    )


def read(path: Path) -> tuple[str, list[dict[str, float]]]:
    """The command that made one run, and its rows."""
    command, _, *lines = path.read_text().splitlines()
    return command, [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]


def final_returns(algo: str) -> dict[tuple[str, int, str], dict[int, float]]:
    """(env, env steps asked for, settings) -> seed -> mean return of the last evaluation."""
    found: dict[tuple[str, int, str], dict[int, float]] = {}
    for path in sorted(RESULTS.glob(f"{algo}_*.csv")):
        _, env_id, steps, seed, *_ = path.name.removesuffix(".csv").split("_")
        command, rows = read(path)
        _, _, settings = command.partition(" --set ")
        returns = found.setdefault((env_id, int(steps), settings), {})
        returns[int(seed.removeprefix("seed"))] = rows[-1]["eval_return"]
    return found


def table(algo: str) -> str:
    """One row for each env, number of steps and settings, in Markdown."""
    from rliable import metrics

    rows = []
    for (env_id, steps, settings), by_seed in sorted(final_returns(algo).items()):
        returns = np.array([by_seed[seed] for seed in sorted(by_seed)])
        listed = ", ".join(f"{by_seed[seed]:.0f} ({seed})" for seed in sorted(by_seed))
        middle = [f"{np.median(returns):.1f}", f"{metrics.aggregate_iqm(returns[:, None]):.1f}"]
        settings = f"`{settings}`" if settings else "default"
        rows.append([env_id, f"{steps:,}", settings, listed, *(middle if len(returns) > 1 else ["", ""])])
    return tables.table(["Env", "Env steps", "Settings", "Returns by seed", "Median", "IQM"], rows)


def write_tables() -> None:
    """``docs/learning_curves/<algo>.md`` for each algorithm."""
    TABLES.mkdir(exist_ok=True)
    for algo in ALGORITHMS:
        (TABLES / f"{algo}.md").write_text(table(algo), encoding="utf-8")


def main() -> None:
    """``run`` or ``tables``."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("tables")
    runs = commands.add_parser("run")
    runs.add_argument("algo", choices=ALGORITHMS)
    runs.add_argument("env")
    runs.add_argument("--steps", type=int, required=True)
    runs.add_argument("--seeds", type=int, nargs="+", default=[1])
    runs.add_argument("--eval-freq", type=int, help="env steps between two evaluations (default: a tenth of --steps)")
    runs.add_argument("--set", nargs="+", default=[], metavar="NAME=JSON", help="constructor arguments, or preset=NAME")
    arguments = parser.parse_args()
    if arguments.what == "tables":
        write_tables()
        return
    th.set_num_threads(1)
    for seed in arguments.seeds:
        eval_freq = arguments.eval_freq or max(arguments.steps // 10, 1)
        print(run(arguments.algo, arguments.env, arguments.steps, seed, eval_freq, arguments.set), flush=True)


if __name__ == "__main__":
    main()
