"""Where a result comes from: commit, package versions, hardware, the hyperparameters, how far the cell is."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch as th

from benchmarks.run.layout import ROOT

PACKAGES = ["stable_baselines3", "sb3_contrib", "rl_zoo3", "torch", "gymnasium", "mujoco", "numpy"]


def commit() -> str:
    """Hash of the checked-out commit, ``+dirty`` if tracked files other than results differ or the code has untracked ones;
    "unknown" without git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
        added = git("ls-files", "--others", "--exclude-standard", "--", "sb3_gogepo", "benchmarks/*.py", "benchmarks/*.yml")
        return git("rev-parse", "HEAD") + ("+dirty" if changed or added else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Installed versions of Python and of what the numbers depend on."""
    from sb3_gogepo import __version__

    return {
        "python": platform.python_version(),
        "sb3_gogepo": __version__,
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def hardware(device: str) -> dict[str, Any]:
    """CPU and GPU models, cores, threads of this process, and how busy the machine is."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "gpu": th.cuda.get_device_name() if th.cuda.is_available() else None,
        "device": device,
        "threads": th.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def peak_memory_mb() -> int:
    """The largest resident size of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where ru_maxrss has the size of the process that started this one, if that was larger
        return int(status.read_text().split("VmHWM:")[1].split()[0]) // 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
