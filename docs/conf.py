"""Sphinx configuration of the site that `make docs` builds."""

import sys
from pathlib import Path

ROOT     = Path(__file__).parent.parent
PACKAGES = ("golden", "hw", "sim", "host")
sys.path[:0] = [str(ROOT / "docs")]

project    = "tritstream"
copyright  = "the authors of tritstream; Apache-2.0"
extensions = ["myst_parser", "sphinxcontrib.mermaid", "sphinx.ext.autodoc", "sphinx.ext.napoleon",
              "api"]

# The source directory is the repository, so that links to README.md are links between pages.
root_doc         = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/api/*.rst", "models/*/*.md"]
exclude_patterns = [".*", "build"]

# The pages of the API depend on the list of modules.
api_modules = sorted(str(path.relative_to(ROOT)) for package in PACKAGES
                     for path in (ROOT / package).rglob("*.py"))

html_theme          = "furo"
html_title          = "tritstream"
html_show_copyright = False
html_copy_source    = False
smartquotes         = False
# A start page that redirects to `docs`.
html_extra_path     = ["site"]
# Most code blocks are indented shell commands, tables and drawings, so Python is not the default.
highlight_language  = "none"
# Anchors as on GitHub, so that links to headings work in both places.
myst_heading_anchors = 4
# GitHub renders ```mermaid blocks; this makes the same blocks diagrams on the site.
myst_fence_as_directive = ["mermaid"]
# A role that Amaranth's docstrings use.
rst_prolog = """
.. role:: py(code)
   :language: python
"""
toc_object_entries = False
# Names that exist twice, in signatures without a module.
suppress_warnings = ["ref.python"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints       = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# The reference of a plug-in is made without the program that loads it.
autodoc_mock_imports    = ["vllm"]
napoleon_google_docstring = False
napoleon_use_rtype        = False
#: Sections for ports of a component and fields of a record, as in Amaranth's docstrings.
napoleon_custom_sections  = [("Members", "params_style")]

# References to our own names must resolve; types of numpy and other libraries have no pages here.
nitpicky = True
# It is described under "Members" of its class, which are no targets of references.
nitpick_ignore = [("py:attr", "tritstream.host.transports.base.Transport.flow_control")]
nitpick_ignore_regex = [("py:.*", r"(?!tritstream\.|\.).*|.*\._?[MTR]")]
