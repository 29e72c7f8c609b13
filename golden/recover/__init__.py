"""Recovery of trits: find depth, form and scales from which dequantized weights were computed.

Recovery is exact: all weights must come back. For each magnitude and integer, the float32 scales
that can produce the magnitude form an interval (``lattice``), and the scales of a group are the
intersection over its 16 magnitudes. At most 27 scales must serve all groups (``cover``, ``table``).
The search uses a few groups. Groups that the resulting table does not reproduce are added, and the
search is repeated (``fitting``), for one depth and form after the other (``matrix``). With the
table, a look-up returns all codes and integers (``coder``).
"""

from tritstream.golden.recover.coder import encode
from tritstream.golden.recover.fitting import Attempt
from tritstream.golden.recover.matrix import DEPTHS, Misfit, Recovery, Unfit, ratios, recover

__all__ = [
    "DEPTHS", "Attempt", "Misfit", "Recovery", "Unfit", "encode", "ratios", "recover",
]
