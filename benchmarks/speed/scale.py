"""What a training round and an env step cost, and what the buffer takes, by size: ``make bench-scale``.

Each row changes one thing of the first one, and runs in a process of its own. Times are medians on one thread; compare
them within a run only. ``peak RSS`` is that of the process with ``--episodes`` policies in the buffer, ``full buffer``
what the buffer takes with ``buffer_size`` of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.logger import Logger

from benchmarks.run.manifest import peak_memory_mb
from benchmarks.speed.update_speed import median_seconds
from sb3_gogepo import GoGePo
from sb3_gogepo.networks.policy_weights import BatchedActor

#: what each row changes: size of the observations, hidden layers, batch size, candidates an iteration
DEFAULT: dict[str, Any] = dict(n_obs=17, net_arch=[64, 64], batch_size=16, n_candidates=1)
ROWS: list[dict[str, Any]] = [
    {},
    *(dict(net_arch=[n, n]) for n in (128, 256, 512, 1024)),
    *(dict(n_obs=n) for n in (4, 105, 376)),
    *(dict(batch_size=n) for n in (4, 64, 256)),
    *(dict(n_candidates=n) for n in (4, 16, 64)),
]


class Blank(gym.Env):
    """An env of a given size that is never stepped."""

    def __init__(self, n_obs: int, n_actions: int = 6) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (n_obs,), np.float32)
        self.action_space = spaces.Box(-1, 1, (n_actions,), np.float32)


def make_model(n_policies: int, n_obs: int, net_arch: list[int], batch_size: int, n_candidates: int) -> GoGePo:
    """A model with ``n_policies`` random policies in its buffer, ready to train."""
    model = GoGePo(
        "MlpPolicy",
        Blank(n_obs),
        seed=0,
        device="cpu",
        batch_size=batch_size,
        n_candidates=n_candidates,
        policy_kwargs=dict(net_arch=net_arch),
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    rng = th.Generator().manual_seed(0)
    for _ in range(n_policies):
        weights = th.randn(model.policy.layout.n_weights, generator=rng)
        model.replay_buffer.add(weights, 0.0, float(th.randn((), generator=rng)))
    model._update_scalers()
    return model


def median_ms(function: Callable[[], Any], repeats: int) -> float:
    """Median time of a call, in ms; the first call warms up."""
    return 1000 * median_seconds({"": function}, repeats)[""]


def measure(row: dict[str, Any], episodes: int, repeats: int) -> dict[str, float]:
    """Costs of one row; see ``main`` for what is printed of them."""
    th.set_num_threads(1)
    model = make_model(episodes, **{**DEFAULT, **row})
    peak_mb = peak_memory_mb()
    layout, n_candidates = model.policy.layout, model.n_candidates or 1
    actor = BatchedActor(layout, model.policy.generate_weights(np.zeros(n_candidates)).cpu(), model.policy.activation)
    observations = np.zeros((n_candidates, layout.layer_sizes[0]), dtype=np.float32)
    return dict(
        n_weights=layout.n_weights,
        train_ms=median_ms(lambda: model.train(1), repeats),
        propose_ms=median_ms(lambda: model.propose_candidates(1), repeats) / n_candidates,
        act_us=1000 * median_ms(lambda: actor(observations), 20 * repeats) / n_candidates,
        full_buffer_mib=model.buffer_size * layout.n_weights * 4 / 2**20,
        peak_mb=peak_mb,
    )


def run_row(task: tuple[dict[str, Any], int, int]) -> dict[str, float]:
    return measure(*task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1000, help="policies in the buffer")
    parser.add_argument("--repeats", type=int, default=10, help="of each timing")
    options = parser.parse_args()
    print("default:", ", ".join(f"{name} {value}" for name, value in DEFAULT.items()), f"; {options.episodes} policies stored")
    print(
        f"{'change':24} {'weights':>9} {'train round ms':>15} {'generate ms':>12} {'act us':>8}"
        f" {'full buffer MiB':>15} {'peak RSS MiB':>12}"
    )
    # maxtasksperchild: a fresh process a row, so that peak memory is the row's own
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for row, result in zip(
            ROWS, pool.imap(run_row, [(row, options.episodes, options.repeats) for row in ROWS]), strict=True
        ):
            change = ", ".join(f"{name} {value}" for name, value in row.items()) or "(default)"
            print(
                f"{change:24} {result['n_weights']:9.0f} {result['train_ms']:15.1f} {result['propose_ms']:12.2f}"
                f" {result['act_us']:8.1f} {result['full_buffer_mib']:15.0f} {result['peak_mb']:12.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
