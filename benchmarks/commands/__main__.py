"""How closely commands are met: ``python -m benchmarks.commands run --algos gogepo --envs Swimmer-v3 --seeds 5 --jobs 2``.

``run`` trains and measures cells, each a process of its own that writes one JSON file. Finished ones are skipped, and the same
command goes on with what was killed. ``run --hidden`` keeps the middle fifth of the returns out of the buffer and asks for
them; it needs GoGePo's finished cells of the same envs and seeds. ``report`` writes table and figures from the files.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch as th

from benchmarks.commands.cells import ALGOS, BUDGETS, HIDDEN, N_SEEDS, PLAIN, file_of, settings_of
from benchmarks.run.layout import RESULTS, WORK, Cell
from benchmarks.run.local_runner import thread_environment


def cell_command(cell: Cell, options: argparse.Namespace) -> list[str]:
    """Starts one cell's process."""
    words = [sys.executable, "-m", "benchmarks.commands", "cell", *map(str, cell), *map(str, options.episodes)]
    given = {"--n-timesteps": options.n_timesteps, "--results": options.results, "--work": options.work}
    pairs = {**given, "--device": options.device}
    return [*words, *(str(word) for pair in pairs.items() if pair[1] is not None for word in pair)]


def run_cells(cells: list[Cell], options: argparse.Namespace, poll_seconds: float = 0.5) -> list[Cell]:
    """Run the cells that are not finished, ``jobs`` at a time; returns those that failed."""
    waiting, failed = list(cells), []
    running: dict[Cell, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < options.jobs:
                cell = waiting.pop(0)
                running[cell] = subprocess.Popen(cell_command(cell, options), env=thread_environment(options.threads))
            for cell, process in [(cell, process) for cell, process in running.items() if process.poll() is not None]:
                del running[cell]
                if process.returncode:
                    failed.append(cell)
            time.sleep(poll_seconds)
    finally:
        for process in running.values():
            process.terminate()  # it saves a checkpoint first
        for process in running.values():
            process.wait()
    return failed


def run(options: argparse.Namespace) -> int:
    """All combinations, the first seed of everything first; returns the number of cells that failed."""
    track = HIDDEN if options.hidden else PLAIN
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    cells = [Cell(track, algo, env, seed) for seed in seeds for env in options.envs for algo in options.algos]
    for cell in cells:
        settings_of(cell, options)  # better now than after hours
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cells' processes end, too
    try:
        failed = run_cells(cells, options)
    except KeyboardInterrupt:
        print("Stopped. The same command continues.")
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    n_finished = sum(file_of(cell, options.results).exists() for cell in cells)
    print(f"{n_finished} of {len(cells)} cells are finished; results are in {options.results}.")
    for cell in failed:
        print(f"  failed: {cell}")
    return len(failed)


def run_one(options: argparse.Namespace) -> int:
    """One cell, in this process."""
    from benchmarks.commands.measure import run_cell

    th.set_num_threads(options.threads)
    run_cell(Cell(options.track, options.algo, options.env, options.seed), options)
    return 0


def report(options: argparse.Namespace) -> int:
    """Table and figures of the docs."""
    from benchmarks.commands.report import write

    write(options.results, options.docs)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Three subcommands; ``cell`` is what ``run`` starts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.commands", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="{run,report}")
    of_run = subparsers.add_parser("run", help="train and measure cells")
    of_run.add_argument("--algos", nargs="+", default=["gogepo"], choices=ALGOS, help="default: gogepo")
    of_run.add_argument("--envs", nargs="+", default=list(BUDGETS), help="Gymnasium ids (default: all that have a budget)")
    of_run.add_argument("--seeds", type=int, default=N_SEEDS, help="how many (default: %(default)s)")
    of_run.add_argument("--first-seed", type=int, default=0, help="default: %(default)s")
    of_run.add_argument("--jobs", type=int, default=1, help="cells at a time (default: %(default)s)")
    of_run.add_argument("--hidden", action="store_true", help="hide a band of returns from the buffer, and ask for them")
    of_run.add_argument("--episodes", nargs=2, type=int, default=[10, 100], help="a command, of the two protocols")
    of_run.set_defaults(main=run)
    of_cell = subparsers.add_parser("cell")
    for name in ("track", "algo", "env"):
        of_cell.add_argument(name)
    of_cell.add_argument("seed", type=int)
    of_cell.add_argument("episodes", nargs=2, type=int)
    of_cell.set_defaults(main=run_one)
    for subparser in (of_run, of_cell):
        subparser.add_argument("--n-timesteps", type=int, help="env steps (default: the env's budget)")
        subparser.add_argument("--threads", type=int, default=1, help="of torch and BLAS (default: %(default)s)")
        subparser.add_argument("--device", default="cpu", help="of torch (default: %(default)s)")
        subparser.add_argument("--work", type=Path, default=WORK, help="checkpoints (default: %(default)s)")
    of_report = subparsers.add_parser("report", help="write table and figures")
    of_report.add_argument("--docs", type=Path, default=Path("docs"), help="default: %(default)s")
    of_report.set_defaults(main=report)
    for subparser in (of_run, of_cell, of_report):
        subparser.add_argument("--results", type=Path, default=RESULTS, help="JSON files (default: %(default)s)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    numbers = {"seeds": 1, "jobs": 1, "threads": 1, "first_seed": 0, "n_timesteps": 1}
    for name, lowest in numbers.items():
        value = getattr(options, name, None)
        if value is not None and value < lowest:
            parser.error(f"--{name.replace('_', '-')} must be at least {lowest}, got {value}")
    if min(getattr(options, "episodes", [1])) < 1:
        parser.error(f"--episodes must be two numbers above 0, got {options.episodes}")
    try:
        return min(options.main(options), 1)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
