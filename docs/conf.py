"""Sphinx settings: ``sphinx-build -W --keep-going -q -b html docs docs/_build/html`` from the repository's root."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone builds its own docs

import sb3_gogepo

project = "sb3_gogepo"
author = "The sb3_gogepo authors"
copyright = author
release = version = sb3_gogepo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build", "benchmarks/*", "pages/*"]  # benchmarks.md includes the latter
html_theme = "furo"
html_title = f"sb3_gogepo {release}"
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["matplotlib", "minari", "tqdm"]  # the extra `docs` does not bring them
python_use_unqualified_type_names = True
maximum_signature_line_length = 90

copybutton_prompt_text = r">>> |\$ "
copybutton_prompt_is_regexp = True

# References to this package must resolve; those to SB3, Gymnasium, NumPy and torch would need their inventories, and so
# the network. Aliases and type variables of annotations have no page.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!sb3_gogepo\.).*"),
    (r"py:.*", r"sb3_gogepo\..*\.(PathOrFile|Self\w+)"),
]
