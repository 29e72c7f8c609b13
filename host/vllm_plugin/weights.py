"""Weights of a packed checkpoint under the names of the plain one."""

from collections.abc import Iterator

from torch import Tensor

from tritstream.golden.packed.export import exported_weights
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import require_intact
from tritstream.host.torch_values import to_torch

__all__ = ["plain_weights"]


def plain_weights(packed: PackedCheckpoint) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors that ``tritstream export`` of a packed checkpoint would write.

    Each tensor is dequantized when its turn comes, so one of them is in memory at a time. The bytes
    of each tensor are checked against their CRC-32 before.

    Raises :class:`.CheckpointError` if bytes are damaged, or if weights are beyond the range of
    their dtype.
    """
    for name, tensor in packed.kept.items():
        require_intact(packed, [tensor])
        yield name, to_torch(tensor.read())
    for name, infos in packed.origins.items():
        for info in infos:
            require_intact(packed, packed.tensors_of(info.name))
        yield name, to_torch(exported_weights(packed, name).read())
