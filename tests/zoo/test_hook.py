"""The start-up hook, mostly in bare interpreters (``python -S``: no site-packages, hence no RL Zoo and no sb3_gogepo)."""

from __future__ import annotations

import py_compile
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ROOT, environment

STARTUP = ROOT / "startup"
FAKE_ZOO = {
    "rl_zoo3/__init__.py": "",
    "rl_zoo3/utils.py": "ALGOS = {'ppo': object}\n",
    "rl_zoo3/hyperparams_opt.py": "HYPERPARAMS_SAMPLER = {}\nHYPERPARAMS_CONVERTER = {}\n",
}
FAKE_REGISTRATION = {
    "sb3_gogepo/__init__.py": "",
    "sb3_gogepo/zoo/__init__.py": "",
    "sb3_gogepo/zoo/registration.py": "def extend(module): module.extended = sorted(vars(module))\n",
}


def bare(code: str, *options: str, path: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` where only the hook, and what lies in ``path``, can be imported beside the standard library."""
    paths = [str(STARTUP)] + ([str(path)] if path else [])
    result = subprocess.run(
        [sys.executable, "-S", *options, "-c", f"import sys; sys.path += {paths}\n{code}"],
        cwd=STARTUP,  # the current folder comes first on the path
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def test_pth_is_one_import() -> None:
    assert (STARTUP / "sb3_gogepo_rl_zoo3_hook.pth").read_text() == "import sb3_gogepo_rl_zoo3_hook\n"


def test_extends_after_the_import_and_leaves_the_loader_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, FAKE_ZOO | FAKE_REGISTRATION)
    code = """
import sb3_gogepo_rl_zoo3_hook, rl_zoo3.utils as utils
assert "ALGOS" in utils.extended
assert "exec_module" not in vars(utils.__loader__)
assert type(utils.__loader__).__name__ == "SourceFileLoader"
import importlib
del utils.extended
assert importlib.reload(utils).extended
"""
    result = bare(code, path=path)
    assert (result.stdout, result.stderr) == ("", "")


def test_imports_nothing_of_its_own() -> None:
    result = bare("before = set(sys.modules); import sb3_gogepo_rl_zoo3_hook; print(sorted(set(sys.modules) - before))")
    # with -S, `os` has not been imported by `site`
    assert "sb3_gogepo_rl_zoo3_hook" in result.stdout
    assert not re.search(r"'(importlib|re|typing|torch|sb3_gogepo|rl_zoo3)[.']", result.stdout)


def test_rl_zoo_absent_is_the_usual_error() -> None:
    code = "import sb3_gogepo_rl_zoo3_hook\ntry: import rl_zoo3.utils\nexcept ModuleNotFoundError as error: print(error.name)"
    result = bare(code)
    assert (result.stdout, result.stderr) == ("rl_zoo3\n", "")


def test_a_module_of_rl_zoo_that_is_gone_is_the_usual_error(tmp_path: Path) -> None:
    code = """
import sb3_gogepo_rl_zoo3_hook
try:
    import rl_zoo3.exp_manager
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert bare(code, path=write(tmp_path, FAKE_ZOO)).stdout == "rl_zoo3.exp_manager\n"


def test_a_broken_package_is_reported_and_does_not_raise(tmp_path: Path) -> None:
    result = bare("import sb3_gogepo_rl_zoo3_hook, rl_zoo3.utils; print('goes on')", path=write(tmp_path, FAKE_ZOO))
    assert result.stdout == "goes on\n"
    assert "sb3_gogepo could not register with RL Zoo (rl_zoo3.utils): ModuleNotFoundError" in result.stderr


@pytest.mark.parametrize(("value", "n_finders"), [("1", 0), ("yes", 0), ("0", 1), ("", 1)])
def test_switch(value: str, n_finders: int) -> None:
    code = "import sb3_gogepo_rl_zoo3_hook as hook; print(sys.meta_path.count(hook.RLZooFinder))"
    assert bare(code, SB3_GOGEPO_NO_RL_ZOO_HOOK=value).stdout == f"{n_finders}\n"


def test_cost(tmp_path: Path) -> None:
    """Well under a millisecond from bytecode, as pip installs it; the best of some runs, for machines that are busy."""
    py_compile.compile(str(STARTUP / "sb3_gogepo_rl_zoo3_hook.py"), cfile=str(tmp_path / "timed_hook.pyc"), doraise=True)
    microseconds = []
    for _ in range(5):
        log = bare("import os; import timed_hook", "-X", "importtime", path=tmp_path).stderr
        line = next(line for line in log.splitlines() if line.endswith("timed_hook"))
        microseconds.append(int(line.split("|")[1]))
    assert min(microseconds) < 1000


def test_cost_of_each_import() -> None:
    code = """
import timeit, sb3_gogepo_rl_zoo3_hook as hook
print(min(timeit.repeat(lambda: hook.RLZooFinder.find_spec("numpy"), number=1000, repeat=5)))
"""
    assert float(bare(code).stdout) < 5e-3  # 5 us a call; 0.15 us measured


def test_installed_hook_runs_at_start_up_and_loads_nothing(zoo: Callable[..., str]) -> None:
    code = (
        'import sys; print(*[name in sys.modules for name in ("sb3_gogepo_rl_zoo3_hook", "sb3_gogepo", "rl_zoo3", "torch")])'
    )
    assert zoo(["python", "-c", code]) == "True False False False\n"


def test_switched_off_the_plain_command_does_not_know_us(zoo: Callable[..., str]) -> None:
    code = "import rl_zoo3.utils; print('gogepo' in rl_zoo3.utils.ALGOS)"
    assert zoo(["python", "-c", code]).endswith("True\n")
    assert zoo(["python", "-c", code], SB3_GOGEPO_NO_RL_ZOO_HOOK="1").endswith("False\n")
