"""Small versions of `make bench-reliability`, and its figures in the docs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reliability.__main__ import MEASUREMENTS, RESULTS, render_table
from benchmarks.reliability.disk import measure_disk, survived

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked and killed")


def measure(measurement, n, folder):
    """In a process of its own, which forks before torch has threads."""
    command = [sys.executable, "-m", "benchmarks.reliability", measurement, "--n", str(n), "--algorithms", "GoGePo"]
    subprocess.run([*command, "--folder", str(folder)], cwd=ROOT, check=True, timeout=900)
    return json.loads((folder / f"{measurement}.json").read_text())["results"]["GoGePo"]


@pytest.mark.parametrize(("measurement", "n"), [("resume", 2), ("sigterm", 1), ("saves", 10)])
def test_killed_runs_and_saves_survive(measurement, n, tmp_path):
    result = measure(measurement, n, tmp_path)
    assert result["n"] == n
    assert result["survived"] == n, result


@pytest.mark.slow
@pytest.mark.parametrize("measurement", ["resume", "sigterm", "saves", "hostile"])
def test_the_full_measurements(measurement, tmp_path):
    result = measure(measurement, MEASUREMENTS[measurement][1], tmp_path)
    assert result["survived"] == result["n"], result


def test_full_disks_and_read_only_folders_leave_the_old_files():
    result = measure_disk("GoGePo", 0, 0)
    assert result["n"] >= 8
    assert set(result["outcomes"].values()) <= {"OSError, the old file", "PermissionError, the old file"}, result
    assert result["survived"] == result["n"]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("no error, the new file", True),
        ("OSError, the old file", True),
        ("no error, the old file", False),
        ("no error, cannot be loaded: ValueError", False),
        ("OSError, cannot be loaded: BadZipFile", False),
        ("OSError, the old file and surplus files", False),
    ],
)
def test_what_counts_as_survived(outcome, expected):
    assert survived(outcome) is expected


def test_the_docs_show_the_figures():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    shown = page.split("benchmarks.reliability table -->\n")[1].split("<!-- end -->")[0]
    assert shown == render_table(RESULTS)
