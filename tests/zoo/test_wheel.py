"""The built wheel in a fresh environment, and an Optuna study that is killed and restarted."""

from __future__ import annotations

import importlib.util
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import BIN, ROOT, environment, run


def test_train_from_the_wheel_then_uninstall(zoo: Callable[..., str], tmp_path: Path) -> None:
    """The environment sees this interpreter's packages, so that neither torch nor RL Zoo is installed again."""
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    zoo(["python", "-m", "pip", "wheel", "--quiet", "--no-deps", *isolation, "-w", "dist", str(ROOT)])
    (wheel,) = (tmp_path / "dist").glob("sb3_gogepo-*.whl")
    zoo(["python", "-m", "venv", "--without-pip", "fresh"])
    python = tmp_path / "fresh" / "bin" / "python"
    (packages,) = (tmp_path / "fresh" / "lib").glob("python3*/site-packages")
    # .pth files in folders named by a .pth file are not processed: this environment has no hook but the wheel's
    (packages / "base.pth").write_text("\n".join(site.getsitepackages()))
    assert "gogepo" not in zoo([str(python), "-m", "rl_zoo3.train", "--help"])

    zoo(f"python -m pip --python {python} install --quiet --no-deps --no-index --ignore-installed {wheel}")
    where = zoo([str(python), "-c", "import sb3_gogepo; print(sb3_gogepo.__file__)"])
    assert where.strip().startswith(str(packages))
    zoo(f"{python} {BIN / 'rl_zoo3'} train --algo gogepo --env Hopper-v3 -n 100 --eval-freq -1")
    assert (tmp_path / "logs" / "gogepo" / "Hopper-v3_1" / "Hopper-v3.zip").is_file()

    zoo(f"python -m pip --python {python} uninstall --quiet --yes sb3-gogepo")
    assert not list(packages.rglob("*gogepo*"))
    assert zoo([str(python), "-c", "pass"]) == ""


@pytest.mark.slow
def test_killed_study_is_restarted(zoo: Callable[..., str], tmp_path: Path) -> None:
    command = f"{sys.executable} {BIN / 'rl_zoo3'} train --algo gogepo --env Hopper-v3 -n 300 --no-optim-plots"
    command += " -optimize --n-evaluations 1 --storage hopper.log --study-name hopper --n-trials"
    journal = tmp_path / "hopper.log"
    process = subprocess.Popen(
        [*command.split(), "1000"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.is_file() and '"values"' in journal.read_text()):
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = journal.read_text().count('"values"')
    assert finished >= 1
    printed = zoo(f"{command} 2")
    assert "Best trial" in printed
    assert journal.read_text().count('"values"') > finished


def test_run_reports_failures(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="ended with 3"):
        run("exit 3", cwd=tmp_path)
