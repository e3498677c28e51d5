"""Train many cells: ``python -m benchmarks.run --algos gogepo ars --envs Swimmer-v3 --seeds 10 --n-timesteps 1e6 --jobs 2``.

A cell is one (track, algo, env, seed), a process of its own. Killed anywhere, the same command continues.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import time
from typing import Any

import gymnasium as gym

from benchmarks.run.layout import Cell, read_json
from benchmarks.run.local_runner import LocalRunner
from benchmarks.run.options import add_arguments, check_arguments
from benchmarks.run.progress import CellView, make_display
from benchmarks.run.tracks import differing, resolve, settings_of


def make_cells(options: argparse.Namespace) -> list[Cell]:
    """All combinations, the first seed of everything first, so that a run cut short is even."""
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    return [Cell(options.track, algo, env, seed) for seed in seeds for env in options.envs for algo in options.algos]


def run_cells(
    cells: list[Cell], runner: Any, options: argparse.Namespace, display: Any, poll_seconds: float = 1.0
) -> dict[Cell, str]:
    """Run all cells that are not finished; returns those that failed, with what went wrong."""
    views = {cell: CellView(cell, options) for cell in cells}
    waiting = [cell for cell in cells if views[cell].refresh() != "finished"]
    failed: dict[Cell, str] = {}
    try:
        with display:
            while waiting or runner.running:
                while waiting and len(runner.running) < runner.n_jobs:
                    runner.start(waiting.pop(0))
                for cell, trouble in runner.collect().items():
                    views[cell].trouble = trouble
                    if trouble:
                        failed[cell] = trouble
                for cell, view in views.items():
                    view.is_running = cell in runner.running
                    view.refresh()
                display.show(list(views.values()))
                time.sleep(poll_seconds)
    finally:
        runner.stop()
    return failed


def other_settings(cells: list[Cell], options: argparse.Namespace) -> list[str]:
    """Finished cells whose settings are other ones than what is asked for now."""
    found = []
    for cell in cells:
        known = read_json(options.results / cell.path / "manifest.json")
        if known.get("status") == "finished" and (differ := differing(known, settings_of(cell, options))):
            found.append(f"{cell}: {differ}")
    return found


def check_env(env_id: str) -> None:
    """:raises ValueError: unless Gymnasium knows the id."""
    try:
        gym.spec(env_id)
    except gym.error.Error as error:
        raise ValueError(f"--envs must be registered Gymnasium ids, got {env_id!r}: {error}") from error


def main(arguments: list[str] | None = None) -> int:
    """Returns the number of cells that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--algos", nargs="+", required=True, help="labels of algorithms.yml")
    parser.add_argument("--envs", nargs="+", required=True, help="Gymnasium ids")
    parser.add_argument("--seeds", type=int, default=1, help="how many (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time (default: %(default)s)")
    parser.add_argument(
        "--ray", nargs="?", const="auto", help="run on a Ray cluster: its address (default: the one Ray finds)"
    )
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        check_arguments(options)
        if min(options.seeds, options.jobs) < 1 or options.first_seed < 0:
            raise ValueError("--seeds and --jobs must be at least 1, --first-seed at least 0")
        options.algos, options.envs = list(dict.fromkeys(options.algos)), list(dict.fromkeys(options.envs))
        for env in options.envs:
            check_env(env)
            for algo in options.algos:
                resolve(options.track, algo, env)  # better now than after hours
    except ValueError as error:
        parser.error(str(error))
    cells = make_cells(options)
    if others := other_settings(cells, options):
        print("Finished with other settings, and left as they are; delete their folders to train anew:")
        print("\n".join(f"  {line}" for line in others))
    if options.ray:
        if importlib.util.find_spec("ray") is None:
            parser.error("--ray needs Ray: pip install -c constraints.txt -e '.[ray]'")
        from benchmarks.run.ray_runner import RayRunner

        runner: Any = RayRunner(options)
    else:
        runner = LocalRunner(options)
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes of the cells end, too
    try:
        failed = run_cells(cells, runner, options, make_display())
    except KeyboardInterrupt:
        print("Stopped. The same command continues.")
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    print(f"{len(cells) - len(failed)} of {len(cells)} cells are finished; results are in {options.results}.")
    for cell, trouble in failed.items():
        print(f"  failed: {cell}, {trouble}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
