"""The part of a device that other projects call an engine, for comparisons of area."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from tritstream.golden.fixed_point import MAX_K
from tritstream.hw.compute.activation_memory import ActivationMemory
from tritstream.hw.compute.datapath import Datapath
from tritstream.hw.compute.lane import Lane
from tritstream.hw.compute.lane_array import LaneType
from tritstream.hw.compute.sequencer import Sequencer

__all__ = ["Engine"]

#: Members of each part that connect it to another part.
_INNER = {"sequencer": {"beat"}, "activation": {"activations"},
          "datapath": {"beat", "word", "activations"}}


class Engine(wiring.Component):
    """Sequencer, activation memory and datapath: words of weights in, row sums out.

    Frames, requests and result banks are outside. The members are those of the three parts, with
    the name of the part in front, except the members that connect the parts.

    Parameters
    ----------
    lanes, columns : int
        Size, see :class:`.DeviceConfig`.
    lane : type, optional
        Lane component, as for :class:`.LaneArray`.
    """

    def __init__(self, lanes: int, columns: int, lane: LaneType = Lane) -> None:
        self._parts: dict[str, wiring.Component] = {
            "sequencer":  Sequencer(lanes),
            "activation": ActivationMemory(columns, MAX_K, lanes),
            "datapath":   Datapath(lanes, columns, lane),
        }
        super().__init__({f"{name}_{port}": member for name, part in self._parts.items()
                          for port, member in part.signature.members.items()
                          if port not in _INNER[name]})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, part in self._parts.items():
            m.submodules[name] = part
            for port, member in part.signature.members.items():
                if port in _INNER[name]:
                    continue
                outer, inner = getattr(self, f"{name}_{port}"), getattr(part, port)
                if member.is_signature:
                    connect(m, flipped(outer), inner)
                elif member.flow is In:
                    m.d.comb += inner.eq(outer)
                else:
                    m.d.comb += outer.eq(inner)
        sequencer, activation, datapath = self._parts.values()
        connect(m, datapath.activations, activation.activations)
        m.d.comb += [datapath.beat.eq(sequencer.beat), datapath.word.eq(sequencer.words.p.data)]
        return m
