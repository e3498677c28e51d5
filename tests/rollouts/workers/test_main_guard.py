"""Programs without ``if __name__ == "__main__":``, which workers' processes import."""

import multiprocessing
import subprocess
import sys

import pytest

from sb3_gogepo.rollouts.workers.interface import PoolSettings
from sb3_gogepo.rollouts.workers.process_backend import ProcessBackend

PROGRAM = """
from sb3_gogepo import GoGePo

def main():
    model = GoGePo("MountainCarContinuous-v0", rollout_backend="subprocess", rollout_workers=2, device="cpu")
    print(model.learn(500).num_timesteps >= 500)

"""
GUARD = 'if __name__ == "__main__":'


def run(tmp_path, ending):
    (tmp_path / "program.py").write_text(PROGRAM + ending)
    return subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_program_without_a_guard_is_told_so_at_once(tmp_path):
    """One error, of the program itself: no worker's traceback, none started again."""
    ended = run(tmp_path, "main()")
    assert ended.returncode == 1
    assert GUARD in ended.stderr.splitlines()[-1]
    assert ended.stderr.count("Traceback") == 1
    assert "is lost" not in ended.stderr


def test_a_program_with_a_guard_runs(tmp_path):
    ended = run(tmp_path, f"{GUARD}\n    main()")
    assert ended.stdout == "True\n"
    assert ended.returncode == 0


def test_a_process_of_somebody_else_is_told_so(monkeypatch):
    """One that imports the program since a SubprocVecEnv, say, has started it."""
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(RuntimeError, match=GUARD):
        ProcessBackend(b"", PoolSettings(n_workers=1))
