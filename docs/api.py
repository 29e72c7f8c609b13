"""Sphinx directive ``api``: reference of the public modules of a package, from docstrings."""

import importlib
import pkgutil
import re

from sphinx.ext.autodoc.mock import mock
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

__all__ = ["Api", "public_modules", "setup"]

_SECTION   = re.compile(r"^\w+\n-+$", re.MULTILINE)
#: A paragraph on returned values or exceptions.
_SENTENCES = re.compile(r"(?<=\n\n)(?:Raises|Returns) (?:.+\n)+")


def public_modules(package: str) -> list[str]:
    """Return the names of a package and its modules that have ``__all__``, without subpackages."""
    paths   = importlib.import_module(package).__path__
    modules = [module.name for module in pkgutil.iter_modules(paths) if not module.ispkg]
    names   = [package, *(f"{package}.{module}" for module in modules)]
    return [name for name in names if hasattr(importlib.import_module(name), "__all__")]


def constants(name: str) -> list[str]:
    """Return exported values without a docstring, which ``automodule`` would leave out."""
    module, described = importlib.import_module(name), ModuleAnalyzer.for_module(name)
    values = [one for one in module.__all__ if not callable(getattr(module, one))]
    return [one for one in values if ("", one) not in described.find_attr_docs()]


class Api(SphinxDirective):
    """``.. api:: PACKAGE``: one section per public module, with all names that it exports."""

    required_arguments = 1

    def run(self):
        with mock(self.config.autodoc_mock_imports):
            text = "".join(map(self._section, public_modules(self.arguments[0])))
        return self.parse_text_to_nodes(text, allow_section_headings=True)

    @staticmethod
    def _section(name):
        return "\n\n".join([
            f"{name}\n{'-' * len(name)}", f".. automodule:: {name}",
            *(f".. py:data:: {one}\n   :module: {name}" for one in constants(name)), ""])


def raise_sentences(app, what, name, obj, options, lines):
    """Move sentences after a docstring section before the first section.

    Napoleon would otherwise make them part of the section.
    """
    text  = "\n".join(lines) + "\n"
    first = _SECTION.search(text)
    if first:
        head, rest = text[:first.start()], text[first.start():]
        said = "".join(f"{one}\n" for one in _SENTENCES.findall(rest))
        lines[:] = (head + said + _SENTENCES.sub("", rest)).splitlines()


def plain_signature(app, what, name, obj, options, signature, returns):
    """Hide signatures whose arguments come from Amaranth and not from the component."""
    return ("()", returns) if signature and "src_loc_at" in signature else None


def setup(app):
    app.add_directive("api", Api)
    app.add_config_value("api_modules", [], "env")
    # The priority is before napoleon, which parses the sections.
    app.connect("autodoc-process-docstring", raise_sentences, priority=400)
    app.connect("autodoc-process-signature", plain_signature)
    return {"parallel_read_safe": True}
