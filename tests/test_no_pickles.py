"""The package's source runs nothing from a file by default: no pickle, no eval, no torch.load of anything but tensors."""

import ast
from pathlib import Path

import pytest

import sb3_gogepo

PACKAGE = Path(sb3_gogepo.__file__).parent
#: the only function that unpickles, and the only one that may call it: when the user said trust=True
UNPICKLES = ("saving/archive.py", "_unpickle_trusted")
#: these send envs and jobs to worker processes of the same run, and read no files
BETWEEN_PROCESSES = {
    "rollouts/workers/episode_worker.py",
    "rollouts/workers/process_backend.py",
    "rollouts/workers/make_backend.py",
}
MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "_pickle"}
CALLS = {"eval", "exec", "compile", "__import__"}
#: SB3's and others' functions that unpickle inside
READERS = {"load_from_zip_file", "json_to_data", "load_from_pkl", "open_path", "read_pickle"}


def findings(source):
    """(function, what) of all that could run something from a file."""
    found = []

    def visit(node, function):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function = node.name
        if isinstance(node, ast.Import):
            found.extend((function, alias.name) for alias in node.names if alias.name.split(".")[0] in MODULES)
        if isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES:
                found.append((function, node.module))
            found.extend((function, alias.name) for alias in node.names if alias.name in READERS)
        if isinstance(node, ast.Attribute) and node.attr in READERS:
            found.append((function, node.attr))
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
            if called in CALLS or (called in ("th.load", "torch.load") and not safe):
                found.append((function, called))
            if called in ("np.load", "numpy.load") and any(word.arg == "allow_pickle" for word in node.keywords):
                found.append((function, called))
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(source), None)
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from cloudpickle import loads",
        "import torch as th\nth.load(x)",
        "torch.load(x, weights_only=False)",
        "eval('1')",
        "np.load(x, allow_pickle=True)",
        "from stable_baselines3.common.save_util import load_from_zip_file",
        "save_util.load_from_pkl(x)",
    ],
)
def test_the_test_finds_it(source):
    assert findings(source)


def test_nothing_in_the_package_runs_what_is_in_a_file():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        found.update((name, *finding) for finding in findings(path.read_text(encoding="utf-8")))
    between = {(name, None, "cloudpickle") for name in BETWEEN_PROCESSES}
    assert found - between == {(*UNPICKLES, "cloudpickle")}
    assert between <= found


@pytest.mark.parametrize("name", sorted(BETWEEN_PROCESSES))
def test_what_is_sent_between_processes_comes_from_no_file(name):
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    called = {ast.unparse(node.func).split(".")[-1] for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"open", "read", "read_bytes", "read_text", "load", "fromfile"}


def test_unpickling_is_called_in_one_place_behind_trust():
    calls = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name) and node.id == UNPICKLES[1]:
                calls.append(path.name)
    assert calls == ["archive.py"]
    tree = ast.parse((PACKAGE / UNPICKLES[0]).read_text(encoding="utf-8"))
    decode = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "decode")
    branch = next(
        node for node in ast.walk(decode) if isinstance(node, ast.If) and ast.unparse(node.test) == "PICKLED in value"
    )
    guard, call = branch.body
    assert isinstance(guard, ast.If)
    assert ast.unparse(guard.test) == "not trust"
    assert isinstance(guard.body[0], ast.Raise)
    assert UNPICKLES[1] in ast.unparse(call)
