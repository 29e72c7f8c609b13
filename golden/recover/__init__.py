"""Recovery of trits: what dequantized weights were made of, such that all come back.

A group of 16 stored weights fixes which float32 scales can have made it: an interval for each
magnitude and integer (``lattice``), and what the magnitudes of a group have in common. At most 27
scales must do for all groups (``cover``, ``table``). That is searched for a few groups, which what
the table then does not make joins (``fitting``), in one depth and form after the other
(``search``). With the table a look-up gives all codes and integers (``coder``).
"""

from tritstream.golden.recover.coder import encode
from tritstream.golden.recover.fitting import Attempt
from tritstream.golden.recover.matrix import DEPTHS, Misfit, Recovery, Unfit, ratios, recover

__all__ = [
    "DEPTHS", "Attempt", "Misfit", "Recovery", "Unfit", "encode", "ratios", "recover",
]
