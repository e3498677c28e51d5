"""Training rounds and whole training against GoGePo written plainly from the paper: ``make bench-update``.

All parts take turns in one process, on one thread, with 64 random policies stored. Times are CPU times, and ratios those of
one turn, so that what else the machine does counts little. ``--compile`` adds the package's networks under
``torch.compile``; the first round, where it compiles, is printed too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.logger import Logger

from benchmarks.speed.plain import PlainGoGePo
from sb3_gogepo import GoGePo, presets
from sb3_gogepo.networks.denormals import flush_denormals

#: policies stored before the first turn
N_POLICIES = 64
#: Name -> what it does, and how many env steps it made, if it counts them
Parts = Mapping[str, Callable[[], Any]]


def make_model(env_id: str, preset: dict) -> GoGePo:
    """A model with a buffer of random policies and returns; it trains from the first episode on."""
    model = GoGePo("MlpPolicy", gym.make(env_id), seed=0, device="cpu", **{**preset, "n_warm_up_episodes": 0})
    model.set_logger(Logger(folder=None, output_formats=[]))
    rng = np.random.default_rng(0)
    for episode_return in rng.normal(30, 10, N_POLICIES):
        model.replay_buffer.add(0.1 * th.randn(model.policy.layout.n_weights), 0.0, episode_return)
    return model


def make_plain(env_id: str) -> PlainGoGePo:
    """The plain version, with as many policies."""
    plain = PlainGoGePo(gym.make(env_id))
    plain.add_random_policies(N_POLICIES)
    return plain


def make_compiled(env_id: str, preset: dict) -> GoGePo:
    """The package's model with compiled networks, for batches of any number of different policies."""
    model = make_model(env_id, preset)
    generator, evaluator = model.policy.generator, model.policy.evaluator
    generator.generate_layers = th.compile(generator.generate_layers, dynamic=True)  # type: ignore[method-assign]
    evaluator.forward = th.compile(evaluator.forward, dynamic=True)  # type: ignore[method-assign]
    return model


def learn(model: GoGePo, n_steps: int) -> int:
    """Go on training for so many env steps or a few more; returns how many."""
    before = model.num_timesteps
    model.learn(n_steps, log_interval=None, reset_num_timesteps=False)
    return model.num_timesteps - before


def step_bare(env: gym.Env, n_steps: int) -> int:
    """The env by itself, on random actions."""
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(n_steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    return n_steps


def measure_seconds(parts: Parts, rounds: int, clock: Callable[[], float] = time.process_time) -> dict[str, list[float]]:
    """Times of each part, per env step where it counts them; they take turns, and the first of ``rounds + 1`` warms up.

    :param clock: CPU time of this process; where others do some of the work, ``time.perf_counter``.
    """
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds + 1):
        for name, part in parts.items():
            start = clock()
            n_steps = part()
            seconds[name].append((clock() - start) / (n_steps if isinstance(n_steps, int) else 1))
    return seconds


def take_medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Median of each part's times, the warm-up left out."""
    return {name: float(np.median(values[1:])) for name, values in seconds.items()}


def median_seconds(parts: Parts, rounds: int, clock: Callable[[], float] = time.process_time) -> dict[str, float]:
    """:func:`take_medians` of :func:`measure_seconds`."""
    return take_medians(measure_seconds(parts, rounds, clock))


def compare_rounds(models: Mapping[str, GoGePo], plain: PlainGoGePo, rounds: int) -> None:
    """Training rounds alone."""
    parts: dict[str, Callable[[], Any]] = {"plain": plain.train}
    parts |= {name: partial(model.train, 1) for name, model in models.items()}
    with flush_denormals():
        seconds = measure_seconds(parts, rounds)
    medians = take_medians(seconds)
    print("| One training round | ms | plain / this | first, s |\n|---|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {1000 * median:.1f} | {medians['plain'] / median:.1f} | {seconds[name][0]:.1f} |", flush=True)


def compare_training(env_id: str, models: Mapping[str, GoGePo], plain: PlainGoGePo, rounds: int) -> None:
    """Whole episodes, with their gradient steps, and the bare env."""
    parts: dict[str, Callable[[], Any]] = {"the bare env": partial(step_bare, gym.make(env_id), 2000)}
    parts |= {"plain": plain.learn_episode, **{name: partial(learn, model, 2000) for name, model in models.items()}}
    seconds = {name: np.array(values[1:]) for name, values in measure_seconds(parts, rounds).items()}
    print("\n| Training | ms per 1000 env steps | this / bare env | plain / this |\n|---|---|---|---|")
    for name, values in seconds.items():
        of_bare, of_plain = (np.median(a / b) for a, b in ((values, seconds["the bare env"]), (seconds["plain"], values)))
        print(f"| {name} | {1e6 * np.median(values):.0f} | {of_bare:.1f} | {of_plain:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="Swimmer-v5")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile; needs a C++ compiler")
    options = parser.parse_args()
    th.set_num_threads(options.threads)
    models = {"sb3_gogepo, PAPER": make_model(options.env, presets.PAPER), "sb3_gogepo, default": make_model(options.env, {})}
    plain = make_plain(options.env)
    compiled = {}
    if options.compile:
        compiled["compiled, PAPER"] = make_compiled(options.env, presets.PAPER)
        compiled["compiled, default"] = make_compiled(options.env, {})
    compare_rounds({**models, **compiled}, plain, options.rounds)
    compare_training(options.env, models, plain, options.rounds)


if __name__ == "__main__":
    main()
