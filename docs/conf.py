"""The documentation as a site: ``./dev docs`` builds it into ``site/``, and every warning is an error."""

import re

from sphinx.application import Sphinx

from ollama_ferry._version import __version__

project = "ollama-ferry"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_copybutton"]
html_theme = "furo"
html_title = "ollama-ferry"
html_show_sourcelink = False
# Links to a heading, as Markdown has them elsewhere.
myst_heading_anchors = 3
# Prompts and what is printed are no part of what is copied.
copybutton_prompt_text = "$ "
autodoc_typehints = "description"
autodoc_typehints_format = "short"


def _literal(lines: list[str]) -> None:
    """Take a help text as it is: in reStructuredText stars and underscores at a word's end mean something."""
    lines[:] = [line if line.lstrip().startswith("..") else re.sub(r"([*_`|])", r"\\\1", line) for line in lines]


def setup(app: Sphinx) -> None:
    for part in ("description", "options", "arguments", "epilog"):
        app.connect(f"sphinx-click-process-{part}", lambda _app, _context, lines: _literal(lines))
