"""The docs tell the truth: their examples run, their table of defaults and the files they name exist."""

import ast
import csv
import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import pytest

from sb3_gogepo import presets

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TABLES = runpy.run_path(str(DOCS / "tables.py"))
MAX_STEPS = 600
#: the number of env steps in `.learn(20_000)`, `.learn(1e6, ...)` or `.learn(total_timesteps=2e4)`
LEARN_STEPS = re.compile(r"(?<=\.learn\()(total_timesteps=)?(\d[\d_.]*(?:e\d+)?)")
#: and those that are recorded, in `n_steps=20_000`
RECORDED_STEPS = re.compile(r"(?<=\bn_steps=)()(\d[\d_.]*)")
#: pages that need more than the extras that all tests need
NEEDED = {
    "docs/howto/datasets.md": ("minari", "h5py"),
    "docs/howto/envpool.md": ("envpool",),
    "docs/howto/export.md": ("onnx", "onnxscript", "onnxruntime"),
}
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shorten(code):
    """Learn and record for MAX_STEPS steps at most: the only difference between what readers and this test run."""
    for pattern in (LEARN_STEPS, RECORDED_STEPS):
        code = pattern.sub(lambda match: f"{match[1] or ''}{min(float(match[2]), MAX_STEPS):g}", code)
    return code


def python_blocks(page):
    """The page's Python blocks, each behind as many empty lines as put its errors on the right line of the page."""
    text = page.read_text(encoding="utf-8")
    return ["\n" * text.count("\n", 0, match.start(1)) + match[1] for match in PYTHON_BLOCK.finditer(text)]


@pytest.mark.parametrize(
    ("code", "shortened"),
    [
        ("model.learn(20_000)", "model.learn(600)"),
        ("model.learn(1e6, progress_bar=True)", "model.learn(600, progress_bar=True)"),
        ("model.learn(total_timesteps=2e4)", "model.learn(total_timesteps=600)"),
        ("model.learn(50)", "model.learn(50)"),
        ("write(model, n_steps=20_000, n_eval_episodes=20)", "write(model, n_steps=600, n_eval_episodes=20)"),
    ],
)
def test_only_steps_are_shortened(code, shortened):
    assert shorten(code) == shortened


@pytest.mark.filterwarnings("ignore:rich is experimental")  # the progress bar; SB3 ignores it, but pytest starts anew
@pytest.mark.parametrize(
    "page",
    ["README.md", "docs/index.md", "docs/quickstart.md", "docs/gpim.md", "docs/udrl.md", "docs/udrlpg.md"]
    + [f"docs/howto/{page.name}" for page in sorted((DOCS / "howto").glob("*.md"))],
)
def test_examples_run(page, tmp_path, monkeypatch):
    for name in NEEDED.get(page, ()):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    plt.switch_backend("Agg")
    blocks = python_blocks(ROOT / page)
    assert blocks
    namespace = {"__name__": "__main__"}  # the blocks of a page share their names, as its reader's script
    for block in blocks:
        exec(compile(shorten(block), page, "exec"), namespace)
    plt.close("all")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_source_files_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(
        r"`((?:sb3_gogepo|base|buffers|rollouts|networks|saving|gogepo|gpim|udrl|udrlpg|analysis|zoo|tests)/[\w/]+\.(?:py|yml))`",
        text,
    )
    missing = [name for name in named if not ((ROOT / name).is_file() or (ROOT / "sb3_gogepo" / name).is_file())]
    assert not missing


def test_picture_names_existing_files():
    texts = [element.text for element in ElementTree.parse(DOCS / "figures" / "data_flow.svg").iter() if element.text]
    named = [text for text in texts if text.endswith(".py")]
    assert len(named) >= 7
    assert all((ROOT / "sb3_gogepo" / name).is_file() for name in named)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.name)
def test_tables_are_those_of_code_and_results(page):
    text = page.read_text(encoding="utf-8")
    assert TABLES["fill"](text) == text, "run `python docs/tables.py`"


def test_tables_of_defaults():
    text = (DOCS / "gogepo.md").read_text(encoding="utf-8")
    assert "| `weight_noise_std` | `1.5` | `0.1` |" in text
    assert "| `evaluator_net_arch` | `[256, 256]` | `[256, 256]` |" in text
    assert all(
        f"| `{name}` |" in text for name in {**presets.PAPER, **presets.PAPER["policy_kwargs"]} if name != "policy_kwargs"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [(5e-4, "5e-4"), (2e-6, "2e-6"), (1.25e-3, "1.25e-3"), (4000, "4_000"), (0.25, "0.25"), (True, "True"), (None, "None")],
)
def test_values_are_shown_as_in_code(value, shown):
    assert TABLES["show"](value) == shown
    assert ast.literal_eval(shown) == value


def test_rows_of_what_was_tried():
    with TABLES["TRIED"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    assert all(row["topic"] and row["tried"] and row["env"] and row["returns_by_seed"] for row in rows)
    for row in rows:
        assert not row["against"] or int(row["against"]) < int(row["row"])
        assert not row["env_steps"] or int(row["env_steps"]) > 0
