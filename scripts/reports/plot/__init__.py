"""Pictures of what is measured: one module a picture, and the command ``tritstream dev plot``.

A picture's module has ``TITLE``, ``collect(root)``, which gathers what is drawn as plain data, and
``draw(data)``, which makes a figure of it. To add one, write the module and name it in
:data:`tritstream.scripts.reports.plot.command.PICTURES`.
"""

from tritstream.scripts.reports.plot.command import plot

__all__ = ["plot"]
