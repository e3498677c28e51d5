"""Ask a trained model for returns, by two protocols, as it is and calibrated: what one cell's file holds."""

from __future__ import annotations

import argparse
import fcntl
import time
from typing import Any

import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.commands.cells import HIDDEN, file_of, hidden_band, settings_of
from benchmarks.commands.training import train
from benchmarks.run.layout import EVAL_SEED, Cell, read_json, write_json
from benchmarks.run.tracks import differing
from sb3_gogepo.base.command_algorithm import CommandAlgorithm
from sb3_gogepo.base.command_sweep import CommandSweep
from sb3_gogepo.base.generator_algorithm import GeneratorAlgorithm

#: Ours: commands over ``command_range``. With a hidden band, so many that there are 9 in it.
N_COMMANDS, N_COMMANDS_HIDDEN = 21, 41
#: RADT's (TMLR 2025): targets between two percentiles of the returns in the buffer
N_TARGETS, PERCENTILES = 7, (10, 90)
#: Calibration spends as many episodes as the first sweep, on twice as many commands, and from other start states
N_COMMANDS_CALIBRATION = 41
CALIBRATION_SEED = 2 * EVAL_SEED
#: Only hardware: results are those of one env
N_ENVS = 8


def as_json(values: Any) -> Any:
    """Numbers with six significant digits."""
    return [as_json(value) for value in values] if np.ndim(values) else float(f"{values:.6g}")


def sweep(model: CommandAlgorithm, env: VecEnv, commands: np.ndarray, n_episodes: int) -> dict[str, Any]:
    """A CommandSweep as JSON."""
    result = model.evaluate_commands(commands, n_episodes, env=env, seed=EVAL_SEED)
    return {name: as_json(values) for name, values in result._asdict().items()}


def read_sweep(content: dict[str, Any]) -> CommandSweep:
    """The CommandSweep that :func:`sweep` wrote."""
    return CommandSweep(**{name: np.array(content[name]) for name in CommandSweep._fields})


def measure(model: CommandAlgorithm, env: VecEnv, episodes: list[int]) -> dict[str, Any]:
    """Both protocols, as trained and, of generators, calibrated.

    :param episodes: a command of our protocol, and of RADT's.
    """
    commands = np.linspace(*model.command_range, N_COMMANDS)
    low, high = np.percentile(model.replay_buffer.stored_returns, PERCENTILES)
    protocols = {"range": (commands, episodes[0]), "percentiles": (np.linspace(low, high, N_TARGETS), episodes[1])}

    def both() -> dict[str, Any]:
        return {name: sweep(model, env, *protocol) for name, protocol in protocols.items()}

    results: dict[str, Any] = {"trained": both()}
    if isinstance(model, GeneratorAlgorithm):
        n_episodes = max(episodes[0] // 2, 2)
        paid = model.calibrate(env, N_COMMANDS_CALIBRATION, n_episodes, seed=CALIBRATION_SEED)
        results["calibration"] = dict(
            is_adopted=bool(model.policy.calibration.is_on),
            n_episodes=N_COMMANDS_CALIBRATION * n_episodes,
            env_steps=round(paid.mean_lengths.sum() * n_episodes),
        )
        results["calibrated"] = both()
    return results


def run_cell(cell: Cell, options: argparse.Namespace) -> None:
    """Train and measure the cell, and write its file, unless it is there. Without it, a trained model is measured anew."""
    path, work = file_of(cell, options.results), options.work / cell.path
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be at work on this cell: wait, then look
        settings = settings_of(cell, options)
        if known := read_json(path):
            differ = differing(known, settings)
            print(f"{cell} is finished" + (f" with other settings ({differ}), and left as it is" if differ else ""))
            return
        band, known_range = hidden_band(cell, options.results) if cell.track == HIDDEN else (None, None)
        model, sessions = train(cell, settings, work, band, options)
        started = time.monotonic()
        env = make_vec_env(cell.env, N_ENVS)
        try:
            if known_range is None:
                measured = measure(model, env, options.episodes)
            else:
                commands = np.linspace(*known_range, N_COMMANDS_HIDDEN)
                measured = {"trained": {"range": sweep(model, env, commands, options.episodes[0])}}
        finally:
            env.close()
        content = dict(
            **cell._asdict(),
            **settings,
            timesteps=model.num_timesteps,
            n_training_episodes=model._episode_num,
            sessions=sessions,
            command_range=as_json(model.command_range),
            band=None if band is None else as_json(band),
            measure_seconds=round(time.monotonic() - started),
            **measured,
        )
        write_json(path, content)
        print(f"{cell}: {read_sweep(measured['trained']['range']).summary()}")
