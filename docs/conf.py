"""The pages as a site; `make docs` builds it."""

import sys
from pathlib import Path

ROOT     = Path(__file__).parent.parent
PACKAGES = ("golden", "hw", "sim", "host")
sys.path[:0] = [str(ROOT / "docs")]

project    = "tritstream"
copyright  = "the authors of tritstream; Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "api"]

# The project is the root, so that links to README and the like are links between pages.
root_doc         = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/api/*.rst", "models/*/*.md"]
exclude_patterns = [".*", "build"]

# A new module makes its page anew.
api_modules = sorted(str(path.relative_to(ROOT)) for package in PACKAGES
                     for path in (ROOT / package).rglob("*.py"))

html_theme          = "furo"
html_title          = "tritstream"
html_show_copyright = False
html_copy_source    = False
smartquotes         = False
# A first page that leads to that of `docs`.
html_extra_path     = ["site"]
# Most blocks of code are indented, and shells, tables and drawings: none is Python by default.
highlight_language  = "none"
# As GitHub makes them, so that links to headings work there too.
myst_heading_anchors = 4
# Of Amaranth's docstrings.
rst_prolog = """
.. role:: py(code)
   :language: python
"""
toc_object_entries = False
# Two of one name, in signatures that say no more.
suppress_warnings = ["ref.python"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints       = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype        = False
#: Ports of a component and fields of a record, as Amaranth's own docstrings have them.
napoleon_custom_sections  = [("Members", "params_style")]

# References to what is ours must resolve; types of numpy and the like have no pages here.
nitpicky = True
# Only some transports have it.
nitpick_ignore = [("py:attr", "tritstream.host.transports.base.Transport.flow_control")]
nitpick_ignore_regex = [("py:.*", r"(?!tritstream\.|\.).*|.*\._?[TR]")]
