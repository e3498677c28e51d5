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
from pathlib import Path
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


def time_training(learn: Callable[[], int], learner: Any = None) -> Callable[[], np.ndarray]:
    """``learn``, which returns env steps, as a function that returns (CPU time in all, that of gradient steps) a step.

    :param learner: whose ``train`` makes the gradient steps; None: there are none.
    """
    seconds = np.zeros(2)

    def timed(index: int, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            start = time.process_time()
            result = function(*args)
            seconds[index] += time.process_time() - start
            return result

        return call

    def measure() -> np.ndarray:
        seconds[:] = 0
        n_steps = timed(0, learn)()
        return seconds / n_steps

    if learner is not None:
        learner.train = timed(1, learner.train)
    return measure


def compare_training(env_id: str, models: Mapping[str, GoGePo], plain: PlainGoGePo, rounds: int) -> dict[str, np.ndarray]:
    """Whole episodes, with their gradient steps, and the bare env; the first round warms up.

    :return: what :func:`~benchmarks.speed.figures.draw_training` draws.
    """
    parts = {"plain": time_training(plain.learn_episode, plain)}
    parts |= {name: time_training(partial(learn, model, 2000), model) for name, model in models.items()}
    parts["the bare env"] = time_training(partial(step_bare, gym.make(env_id), 2000))
    turns = [{name: 1e6 * part() for name, part in parts.items()} for _ in range(rounds + 1)]  # ms per 1000 env steps
    costs = {name: np.array([turn[name] for turn in turns[1:]]) for name in parts}
    print("\n| Training | ms per 1000 env steps | gradient steps | this / bare env | plain / this |\n|---|---|---|---|---|")
    for name, values in costs.items():
        total, gradient = np.median(values, axis=0)
        of_bare, of_plain = (
            np.median(a[:, 0] / b[:, 0]) for a, b in ((values, costs["the bare env"]), (costs["plain"], values))
        )
        print(f"| {name} | {total:.0f} | {gradient:.0f} | {of_bare:.1f} | {of_plain:.1f} |", flush=True)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="Swimmer-v5")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile; needs a C++ compiler")
    options = parser.parse_args()
    th.set_num_threads(options.threads)
    models = {"sb3_gogepo, PAPER": make_model(options.env, presets.PAPER), "sb3_gogepo, default": make_model(options.env, {})}
    plain = PlainGoGePo(gym.make(options.env))
    plain.add_random_policies(N_POLICIES)
    compiled = {}
    if options.compile:
        compiled["compiled, PAPER"] = make_compiled(options.env, presets.PAPER)
        compiled["compiled, default"] = make_compiled(options.env, {})
    compare_rounds({**models, **compiled}, plain, options.rounds)
    costs = compare_training(options.env, models, plain, options.rounds)
    if options.figure is not None:
        # at the top, it would count in the memory that benchmarks.speed.scale measures
        from benchmarks.speed.figures import draw_training, save

        save(draw_training(costs), options.figure)


if __name__ == "__main__":
    main()
