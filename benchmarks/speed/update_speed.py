"""How long one training round takes, against a plain implementation of the same loss: ``make bench-update``.

Both sides do the round of ``presets.PAPER`` (4 evaluator and 19 generator steps, batch 16, 200 probing states) on the
same buffer, alternating in one process, so the ratio does not depend on what else the machine does. ``--compile`` adds
the package's networks under ``torch.compile``; the first round, where it compiles, is printed too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.logger import Logger

from benchmarks.speed.plain_generator import generate_layers
from sb3_gogepo import GoGePo, presets
from sb3_gogepo.networks.policy_weights import Layer


def make_model(preset: dict, n_policies: int = 50) -> GoGePo:
    """A model on Swimmer with a buffer of random policies and returns."""
    model = GoGePo("MlpPolicy", gym.make("Swimmer-v5"), seed=0, device="cpu", **preset)
    model.set_logger(Logger(folder=None, output_formats=[]))
    rng = np.random.default_rng(0)
    for episode_return in rng.normal(50, 30, n_policies):
        model.replay_buffer.add(0.1 * th.randn(model.policy.layout.n_weights), 0.0, episode_return)
    return model


class PlainGoGePo(GoGePo):
    """Losses tile by tile and draw by draw, unfused Adam, and gradients of the evaluator that nobody uses."""

    def train_evaluator(self) -> th.Tensor:
        """As GoGePo's, with a policy that was drawn twice in the batch twice."""
        policy_weights, returns = self.draw()
        return self.step(self.policy.layout.split(policy_weights), returns, self.policy.evaluator_optimizer)

    def train_generator(self) -> th.Tensor:
        """As GoGePo's, without its short cuts."""
        _, commands = self.draw()
        layers = generate_layers(self.policy.generator, self.policy.command_scaler(commands))
        return self.step(layers, commands, self.policy.generator_optimizer)

    def draw(self) -> tuple[th.Tensor, th.Tensor]:
        """(batch_size, n_weights) policy weights and (batch_size,) returns, drawn with replacement."""
        samples = self.replay_buffer.sample(self.batch_size)
        counts = samples.counts.long()
        return samples.policy_weights.repeat_interleave(counts, dim=0), samples.returns.repeat_interleave(counts)

    def step(self, layers: list[Layer], returns: th.Tensor, optimizer: th.optim.Optimizer) -> th.Tensor:
        """One gradient step on the mean of (V - return)^2; returns the loss."""
        loss = (self.policy.evaluator(layers) - self.policy.return_scaler(returns)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()


def make_compiled(preset: dict) -> GoGePo:
    """The package's model with compiled networks, for batches of any number of different policies."""
    model = make_model(preset)
    generator, evaluator = model.policy.generator, model.policy.evaluator
    generator.generate_layers = th.compile(generator.generate_layers, dynamic=True)  # type: ignore[method-assign]
    evaluator.forward = th.compile(evaluator.forward, dynamic=True)  # type: ignore[method-assign]
    return model


def measure_seconds(parts: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Times of each part; they take turns, and the first of ``rounds + 1`` warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds + 1):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def take_medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Median of each part's times, the warm-up left out."""
    return {name: float(np.median(values[1:])) for name, values in seconds.items()}


def median_seconds(parts: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """:func:`take_medians` of :func:`measure_seconds`."""
    return take_medians(measure_seconds(parts, rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile; needs a C++ compiler")
    options = parser.parse_args()
    th.set_num_threads(options.threads)
    plain = make_model(presets.PAPER)
    plain.__class__ = PlainGoGePo
    for name in plain.policy.optimizer_names:
        optimizer = getattr(plain.policy, name)
        optimizer.param_groups[0].update(fused=False, foreach=False)
    models = {"plain, PAPER": plain, "sb3_gogepo, PAPER": make_model(presets.PAPER), "sb3_gogepo, default": make_model({})}
    if options.compile:
        models |= {"compiled, PAPER": make_compiled(presets.PAPER), "compiled, default": make_compiled({})}
    seconds = measure_seconds({name: partial(model.train, 1) for name, model in models.items()}, options.rounds)
    medians = take_medians(seconds)
    print(f"{'one training round':22} {'ms':>8} {'plain / this':>13} {'first, s':>9}")
    for name, median in medians.items():
        print(f"{name:22} {1000 * median:8.1f} {medians['plain, PAPER'] / median:13.1f} {seconds[name][0]:9.1f}")


if __name__ == "__main__":
    main()
