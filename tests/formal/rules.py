"""Shared by all proofs: free inputs, rules of streams, planted faults."""

from amaranth import Cat, ClockSignal, Elaboratable, Instance, Module, Signal, Value
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Fragment
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from tritstream.hw.framing.crc import HeaderCrc

__all__ = ["Freed", "KeepsOrder", "Obeys", "Opened", "Shipped", "free", "header_crc_in_time",
           "holds", "planted"]


def free(m, *values):
    """Inputs that do whatever they like."""
    for value in values:
        m.d.comb += Value.cast(value).eq(AnySeq(len(Value.cast(value))))


def holds(m, port, claim):
    """Assume, or assert, that an offered payload is stable until it is taken."""
    payload = Value.cast(port.payload)
    waits, offered = Signal(), Signal(len(payload))
    m.d.sync += [waits.eq(port.valid & ~port.ready), offered.eq(payload)]
    with m.If(waits):
        m.d.comb += claim(port.valid & (payload == offered))


def planted(component, fault):
    """The component with statements of ``fault(m)`` after its own, which outrank them."""
    build = component.elaborate

    def elaborate(platform):
        m = build(platform)
        fault(m)
        return m

    component.elaborate = elaborate
    return component


class Shipped(Component):
    """A core as its Verilog has it, clocked by ``sync`` at its port ``aclk``.

    Parameters
    ----------
    module : str
        Module of the Verilog, which the proof reads as a library.
    ports : members of the module by name
    """

    def __init__(self, module, ports):
        self._module = module
        super().__init__({name: port for name, port in ports.items() if name != "aclk"})

    def elaborate(self, platform):
        m = Module()
        pins = {}
        for name, member in self.signature.members.items():
            port = getattr(self, name)
            if member.flow == In:
                pins[f"i_{name}"] = port
            else:
                pins[f"o_{name}"] = pin = Signal.like(port)
                m.d.comb += port.eq(pin)
        m.submodules.core = Instance(self._module, i_aclk=ClockSignal(), **pins)
        return m


class Freed(Elaboratable):
    """In place of a component: its outputs do whatever they like."""

    def __init__(self, component):
        self._component = component

    def elaborate(self, platform):
        m = Module()
        members = self._component.signature.flatten(self._component)
        free(m, *(value for _, member, value in members if member.flow == Out))
        return m


def header_crc_in_time(m, header_crc):
    """Assume that a :class:`Freed` HeaderCrc is done when it says; a bit for each cycle since."""
    turn = Signal(HeaderCrc.LATENCY)
    m.d.sync += turn.eq(Cat(header_crc.start, turn))
    m.d.comb += Assume(header_crc.done == turn[-1])
    return turn


class Opened:
    """A component's registers by name and the states of its FSM, of which an induction speaks.

    Parameters
    ----------
    component : Component
        Elaborated here; put it under a specification afterwards.
    cuts : functions by name
        Cut points: give what is put in place of a submodule, for instance :class:`Freed`.

    Attributes
    ----------
    parts : dict
        The submodules that were cut, for their ports.
    """

    def __init__(self, component, **cuts):
        m = component.elaborate(None)
        self.parts = {name: m.submodules[name] for name in cuts}
        for name, part in self.parts.items():
            stand_in = cuts[name](part)
            part.elaborate = lambda platform, stand_in=stand_in: stand_in
        fragment = Fragment.get(m, None)
        component.elaborate = lambda platform: fragment
        self._fsm = fragment.generated.get("fsm")
        self._registers = {signal.name: signal
                           for signal in fragment.statements["sync"]._lhs_signals()}

    def __getitem__(self, name):
        return self._registers[name]

    def state(self, *names):
        """Return whether the FSM is in one of these states."""
        return Cat(self._fsm.state == self._fsm.encoding[name] for name in names).any()


class Obeys(Elaboratable):
    """Specification: the streams that leave a component obey the rules of streams.

    Its inputs are free. The streams that enter it obey the same rules, unless ``holding`` is False:
    then what they offer may change before it is taken.

    Parameters
    ----------
    component : Component
    contract : function of a module and the component, optional
        Assumes more of the inputs.
    """

    def __init__(self, component, contract=None, holding=True):
        self._component = component
        self._contract  = contract
        self._holding   = holding

    def elaborate(self, platform):
        m = Module()
        m.submodules.component = self._component
        for name, member in self._component.signature.members.items():
            port = getattr(self._component, name)
            if not member.is_signature:
                if member.flow == In:
                    free(m, *_elements(port, member.dimensions))
            elif isinstance(member.signature, stream.Signature):
                self._stream(m, port, member.flow)
            else:
                leaves = member.signature.flatten(port)
                free(m, *(value for _, leaf, value in leaves if leaf.flow != member.flow))
        if self._contract:
            self._contract(m, self._component)
        return m

    def _stream(self, m, port, flow):
        if flow == In:
            free(m, port.payload, port.valid)
            if self._holding:
                holds(m, port, Assume)
        else:
            free(m, port.ready)
            holds(m, port, Assert)


class KeepsOrder(Obeys):
    """Specification: a buffer passes all payloads from ``i`` to ``o``, in order.

    One arbitrary payload is tracked. ``o`` is valid in every cycle in which the buffer is not
    empty.
    """

    def elaborate(self, platform):
        m = super().elaborate(platform)
        i, o = self._component.i, self._component.o
        inside, ahead   = Signal(4), Signal(4)
        chosen, payload = Signal(), Signal(len(Value.cast(i.payload)))
        enters, leaves  = Signal(), Signal()
        m.d.comb += [
            enters.eq(i.valid & i.ready),
            leaves.eq(o.valid & o.ready),
            Assert(o.valid == (inside != 0)),
        ]
        m.d.sync += inside.eq(inside + enters - leaves)
        with m.If(chosen & leaves):
            m.d.sync += [ahead.eq(ahead - 1), chosen.eq(ahead != 0)]
            with m.If(ahead == 0):
                m.d.comb += Assert(Value.cast(o.payload) == payload)
        with m.If(~chosen & enters & AnySeq(1)):
            m.d.sync += [chosen.eq(1), payload.eq(i.payload), ahead.eq(inside - leaves)]
        return m


def _elements(port, dimensions):
    if not dimensions:
        return [port]
    return [leaf for part in port for leaf in _elements(part, dimensions[1:])]
