"""What flushing denormal numbers saves in a whole training run: ``make bench-denormals``.

The same run with and without it, in turns, in one process on one thread. Denormals appear where gradients stay zero for
hundreds of steps, so benchmarks of a few rounds do not show them.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from statistics import median
from unittest import mock

import torch as th

from sb3_gogepo import GoGePo
from sb3_gogepo.base import command_algorithm
from sb3_gogepo.networks.denormals import flush_denormals


class TimedGoGePo(GoGePo):
    """GoGePo that counts the CPU seconds of its gradient steps."""

    train_seconds = 0.0

    def train(self, n_rounds: int) -> None:
        """The same, timed."""
        before = time.process_time()
        super().train(n_rounds)
        self.train_seconds += time.process_time() - before


def train(env_id: str, n_steps: int, flush: bool) -> tuple[float, float, th.Tensor]:
    """CPU seconds of the whole run, those of its gradient steps, and all weights at its end."""
    with mock.patch.object(command_algorithm, "flush_denormals", flush_denormals if flush else nullcontext):
        model = TimedGoGePo(env_id, seed=0, device="cpu")
        before = time.process_time()
        model.learn(n_steps, log_interval=None)
        seconds = time.process_time() - before
    return seconds, model.train_seconds, th.cat([p.detach().flatten() for p in model.policy.parameters()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="Swimmer-v5")
    parser.add_argument("--steps", type=int, default=60_000, help="env steps a run")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    th.set_num_threads(1)
    runs: dict[bool, list[tuple[float, float, th.Tensor]]] = {False: [], True: []}
    for _ in range(options.rounds):
        for flush in runs:
            runs[flush].append(train(options.env, options.steps, flush))
    print(f"| {options.env}, {options.steps:,} env steps | CPU s | gradient steps, CPU s |\n|---|---|---|")
    for flush, name in ((False, "denormals as they are"), (True, "flushed")):
        whole, training, _ = zip(*runs[flush], strict=True)
        print(f"| {name} | {median(whole):.1f} | {median(training):.1f} |")
    same = all(th.equal(runs[False][0][2], weights) for flush in runs for *_, weights in runs[flush])
    print(f"\nAll runs end with {'the same weights, bit for bit' if same else 'DIFFERENT weights'}.")


if __name__ == "__main__":
    main()
