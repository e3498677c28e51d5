"""The quickstart as a Jupyter notebook: ``python docs/notebook.py`` writes ``docs/quickstart.ipynb`` from the page again.

Text and code are the page's. Trainings show their progress bars. Links that have no text on the page, which Sphinx fills in,
have that of the file's heading.
"""

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PAGE, NOTEBOOK = DOCS / "quickstart.md", DOCS / "quickstart.ipynb"
INSTALL = (
    "Install the package with the extra `plots` first (see [Installation](install.md)), and `pip install ipywidgets`: "
    "progress bars need it in a notebook.\n"
)


def link(match: re.Match) -> str:
    """``[](page.md)`` as ``[Heading](page.md)``."""
    heading = (DOCS / match[1]).read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
    return f"[{heading}]({match[1]})"


def cell(kind: str, text: str, number: int) -> dict[str, Any]:
    """A cell without output."""
    source = text.strip("\n").splitlines(keepends=True)
    made: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": source}
    return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def make_notebook(page: str) -> str:
    """The notebook's JSON: a code cell for each Python block, a Markdown cell for what stands between."""
    page = page.replace(",\nor as a [notebook](quickstart.ipynb)", "")
    page = re.sub(r"\[\]\(([\w/]+\.md)\)", link, page)
    heading, rest = page.split("\n", 1)
    cells = []
    for i, part in enumerate(
        re.split(r"^```python\n(.*?)^```$", f"{heading}\n\n{INSTALL}{rest}", flags=re.MULTILINE | re.DOTALL)
    ):
        if i % 2:
            code = part.replace("progress_bar=False", "progress_bar=True")
            cells.append(cell("code", re.sub(r"(\.learn\(\d[\d_]*)\)", r"\1, progress_bar=True)", code), len(cells)))
        elif part.strip():
            cells.append(cell("markdown", part, len(cells)))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return (
        json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1, ensure_ascii=False)
        + "\n"
    )


if __name__ == "__main__":
    NOTEBOOK.write_text(make_notebook(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
