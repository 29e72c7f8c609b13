"""Pictures of measurements: one module per picture, and the command ``tritstream dev plot``.

The module of a picture has ``TITLE``, ``collect(root)``, which returns plain data, and
``draw(data)``, which returns a figure. To add a picture, write its module and add its name to
:data:`tritstream.scripts.reports.plot.command.PICTURES`.
"""

from tritstream.scripts.reports.plot.command import plot

__all__ = ["plot"]
