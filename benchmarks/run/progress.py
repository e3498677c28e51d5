"""What a run looks like while it runs: rich's progress bars on a terminal, otherwise plain lines."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from benchmarks.run.layout import Cell, read_json


class CellView:
    """What is known of a cell."""

    def __init__(self, cell: Cell, options: argparse.Namespace) -> None:
        self.cell, self.options = cell, options
        self.is_running = False
        self.trouble = ""
        self.timesteps = 0
        self.n_timesteps: int = options.n_timesteps
        self.train_seconds = 0.0
        self.last_return: float | None = None
        self.state = "waiting"

    def refresh(self) -> str:
        """Read the cell's files again; returns its state."""
        manifest = read_json(self.options.results / self.cell.path / "manifest.json")
        progress = read_json(self.options.work / self.cell.path / "progress.json")
        known = progress if self.is_running and progress else manifest
        self.timesteps = known.get("timesteps", 0)
        self.train_seconds = known.get("train_seconds", 0.0)
        self.last_return = progress.get("last_return")
        if manifest.get("status") == "finished":
            self.state, self.n_timesteps = "finished", manifest["n_timesteps"]
        elif self.is_running:
            self.state = "running"
        else:
            self.state = "failed" if self.trouble else "waiting"
        return self.state

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        return min(self.timesteps / self.n_timesteps, 1.0)

    @property
    def seconds_left(self) -> float | None:
        """Of training, if it goes on as fast; None if not running."""
        if self.state != "running" or not self.share:
            return None
        return self.train_seconds / self.share * (1 - self.share)


def describe_time(seconds: float | None) -> str:
    """``"1:02:03"``, or nothing."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def summarize(views: list[CellView]) -> str:
    """One line."""
    counts = {state: sum(view.state == state for view in views) for state in ("finished", "running", "waiting", "failed")}
    return ", ".join(f"{n} {state}" for state, n in counts.items() if n) + f" of {len(views)} cells"


class PlainDisplay:
    """A line for each change of state, and one for each running cell every minute."""

    def __init__(self, every_seconds: float = 60.0) -> None:
        self.every_seconds, self.next_time = every_seconds, 0.0
        self.shown: dict[Cell, str] = {}

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, views: list[CellView]) -> None:
        """Print what is new."""
        is_time = time.monotonic() >= self.next_time
        for view in views:
            if self.shown.get(view.cell, "waiting") != view.state or (is_time and view.state == "running"):
                print(f"{time.strftime('%H:%M:%S')} {describe(view)}", flush=True)
            self.shown[view.cell] = view.state
        if is_time:
            self.next_time = time.monotonic() + self.every_seconds


def describe(view: CellView) -> str:
    """One cell in one line."""
    parts = [f"{view.cell}: {view.state}", f"{view.share:.0%} of {view.n_timesteps:,} steps"]
    if view.last_return is not None:
        parts.append(f"return {view.last_return:.1f}")
    if view.seconds_left is not None:
        parts.append(f"{describe_time(view.seconds_left)} left")
    return ", ".join(parts + ([view.trouble] if view.trouble else []))


class RichDisplay:
    """rich's progress bars: of all cells together, then of each; of many cells, of those that failed, run or come next."""

    def __init__(self, max_rows: int = 40) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.max_rows = max_rows
        self.progress = Progress(BarColumn(bar_width=20), TextColumn("{task.description}", markup=False), refresh_per_second=2)
        self.all = self.progress.add_task("")
        self.tasks: dict[Cell, Any] = {}

    def __enter__(self) -> RichDisplay:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, views: list[CellView]) -> None:
        """Update all bars."""
        order = ["failed", "running", "waiting", "finished"]
        shown = sorted(views, key=lambda view: order.index(view.state))[: self.max_rows]
        done = sum(view.share for view in views)
        self.progress.update(self.all, description=summarize(views), completed=done, total=len(views))
        for view in views:
            if view.cell not in self.tasks:
                self.tasks[view.cell] = self.progress.add_task("", total=1)
            bar = self.tasks[view.cell]
            self.progress.update(bar, description=describe(view), completed=view.share, visible=view in shown)


def make_display() -> Any:
    """The bars if this is a terminal and rich is there."""
    if sys.stdout.isatty():
        try:
            return RichDisplay()
        except ImportError:
            pass
    return PlainDisplay()
