"""The quickstart's notebook is the page's, and runs in a kernel from the first cell to the last."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = runpy.run_path(str(ROOT / "docs" / "notebook.py"))
nbformat = pytest.importorskip("nbformat", reason="the extra `test` has nbclient, which runs notebooks")
nbclient = pytest.importorskip("nbclient", reason="the extra `test` has nbclient, which runs notebooks")
pytest.importorskip("ipykernel", reason="the extra `test` has ipykernel, in which notebooks run")


def test_notebook_is_the_page():
    made = NOTEBOOK["make_notebook"](NOTEBOOK["PAGE"].read_text(encoding="utf-8"))
    assert NOTEBOOK["NOTEBOOK"].read_text(encoding="utf-8") == made, "run `python docs/notebook.py`"
    assert "[](" not in made


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of Jupyter's packages
def test_notebook_runs(tmp_path, monkeypatch):
    """In a kernel of its own, as readers run it, with fewer steps."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(NOTEBOOK["NOTEBOOK"], as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum("progress_bar=True" in cell.source for cell in code) == 2
    for cell in code:
        cell.source = re.sub(r"(?<=learn\()(total_timesteps=)?[\d_.e]+", r"\g<1>600", cell.source)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert all(cell.execution_count for cell in code)
    printed = "".join(output.get("text", "") for cell in code for output in cell.outputs)
    assert "R2" in printed
    assert (tmp_path / "sweep.png").is_file()
