"""Cells over a Ray cluster: ``python -m benchmarks.run ... --ray``. Needs the extra ``ray``, here and on the nodes."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ray

from benchmarks.run import manifest
from benchmarks.run.layout import ROOT, Cell, start_anew
from benchmarks.run.local_runner import cell_arguments, thread_environment
from sb3_gogepo.saving.archive import write_atomically

#: what does not travel to the nodes
EXCLUDES = [".git", "benchmarks/results", "benchmarks/work", ".venv", "docs/_build", "logs", "demo"]


def _run_cell(arguments: list[str], path: str, work: str, threads: int) -> tuple[int, str, dict[str, bytes]]:
    """On a node: train the cell; (exit status, end of the log, name -> content of the result files)."""
    with tempfile.TemporaryDirectory() as results:
        process = subprocess.run(
            [sys.executable, "-m", "benchmarks.run.cell", *arguments, "--results", results, "--work", work],
            env=thread_environment(threads),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        files = {file.name: file.read_bytes() for file in (Path(results) / path).glob("*.*")}
    return process.returncode, process.stdout[-2000:].decode(errors="replace"), files


class RayRunner:
    """All cells at once, as Ray tasks of ``threads`` CPUs each; Ray decides where and when they run.

    Result files come back with the result of a task, so nodes need no common disk. A cell that was cut short starts again.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        ray.init(
            address=None if options.ray == "local" else options.ray,
            runtime_env={"working_dir": str(ROOT), "excludes": EXCLUDES},
            log_to_driver=False,
        )
        self.n_jobs = sys.maxsize
        self.commit = manifest.commit()  # the nodes have no git
        self.task: Any = ray.remote(num_cpus=options.threads, max_retries=3)(_run_cell)
        self.running: dict[Cell, Any] = {}

    def start(self, cell: Cell) -> None:
        """Hand the cell to Ray."""
        options = argparse.Namespace(
            **{**vars(self.options), "results": Path("benchmarks/results"), "work": Path("benchmarks/work")}
        )
        arguments = [*cell_arguments(cell, options), "--commit", self.commit]
        work = tempfile.gettempdir() + "/benchmark-work"
        self.running[cell] = self.task.remote(arguments, str(cell.path), work, self.options.threads)

    def collect(self) -> dict[Cell, str]:
        """Write the results of the tasks that have ended."""
        if not self.running:
            return {}
        done, _ = ray.wait(list(self.running.values()), num_returns=len(self.running), timeout=0)
        ended: dict[Cell, str] = {}
        for cell in [cell for cell, reference in self.running.items() if reference in done]:
            results, work = self.options.results / cell.path, self.options.work / cell.path
            log_file = work / "log.txt"
            try:
                code, log, files = ray.get(self.running.pop(cell))
            except ray.exceptions.RayError as error:
                write_atomically(log_file, str(error).encode(), suffix="")
                ended[cell] = f"{str(error).splitlines()[0]}, see {log_file}"
                continue
            start_anew(results, work)  # a process on this machine may have begun the cell
            for name in sorted(files, key="manifest.json".__eq__):  # last: it says that the others are complete
                write_atomically(results / name, files[name], suffix="")
            write_atomically(log_file, log.encode(), suffix="")
            ended[cell] = f"exit status {code}, see {log_file}" if code else ""
        return ended

    def stop(self) -> None:
        """Cancel what still runs."""
        for reference in self.running.values():
            ray.cancel(reference, force=True)
        ray.shutdown()
