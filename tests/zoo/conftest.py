"""How the tests run RL Zoo's commands: in a subprocess, in a temporary folder, from the installed package."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def _missing() -> str:
    if importlib.util.find_spec("rl_zoo3") is None or shutil.which("rl_zoo3", path=str(BIN)) is None:
        return "rl_zoo3"
    try:
        importlib.metadata.version("sb3-gogepo")
    except importlib.metadata.PackageNotFoundError:
        return "sb3-gogepo"
    return "" if importlib.util.find_spec("sb3_gogepo_rl_zoo3_hook") else "the start-up hook of sb3-gogepo"


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without PYTHONPATH, so that only what is installed is found."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SB3_GOGEPO_NO_RL_ZOO_HOOK")}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**inherited, "PATH": path, "MPLBACKEND": "Agg", **variables}


def run(command: str | list[str], cwd: Path, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command; if it fails, fail with its output."""
    result = subprocess.run(
        command,
        cwd=cwd,
        env=environment(**variables),
        shell=isinstance(command, str),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,  # against hanging, not against busy machines
        check=False,
    )
    if check and result.returncode != 0:
        pytest.fail(f"{command} ended with {result.returncode}:\n{result.stdout[-3000:]}", pytrace=False)
    return result


@pytest.fixture
def zoo(tmp_path: Path) -> Callable[..., str]:
    """Runs a command line in a temporary folder and returns what it printed."""
    if missing := _missing():
        pytest.skip(f"{missing} is not installed in this interpreter: pip install -e '.[zoo]'")
    return lambda command, **variables: run(command, cwd=tmp_path, **variables).stdout
