"""Cells as processes on this machine, several at a time."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from benchmarks.run.layout import ROOT, Cell
from benchmarks.run.options import add_arguments

#: environment variables that set the threads of BLAS and OpenMP
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def cell_arguments(cell: Cell, options: argparse.Namespace) -> list[str]:
    """The command line of ``benchmarks.run.cell``, without what is at its default."""
    defaults = argparse.ArgumentParser()
    add_arguments(defaults)
    arguments = ["--algo", cell.algo, "--env", cell.env, "--seed", str(cell.seed)]
    for name, default in vars(defaults.parse_args([])).items():
        value = getattr(options, name)
        if value != default:
            arguments += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return arguments


def thread_environment(threads: int) -> dict[str, str]:
    """This process's environment, with the number of BLAS and OpenMP threads set."""
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}


class LocalRunner:
    """Up to ``n_jobs`` cells at a time, each a process on this machine that writes a log into the work folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.n_jobs = options, options.jobs
        self.running: dict[Cell, subprocess.Popen[bytes]] = {}

    def start(self, cell: Cell) -> None:
        """Start the cell's process."""
        log = self.options.work / cell.path / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self.running[cell] = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.run.cell", *cell_arguments(cell, self.options)],
                env={**thread_environment(self.options.threads), "PYTHONPATH": os.pathsep.join([str(ROOT), *_python_path()])},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def collect(self) -> dict[Cell, str]:
        """Cells that have ended -> "" or what went wrong."""
        ended = {cell: process.returncode for cell, process in self.running.items() if process.poll() is not None}
        for cell in ended:
            del self.running[cell]
        return {
            cell: f"exit status {code}, see {self.options.work / cell.path / 'log.txt'}" if code else ""
            for cell, code in ended.items()
        }

    def stop(self) -> None:
        """End all processes; their cells can be continued."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait()


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
