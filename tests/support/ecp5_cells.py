"""Cells of the ECP5 for the simulator of Amaranth, in the modes that `hw/primitives/ecp5` uses.

They follow the Verilog that proofs use: the model of CCU2C in Yosys, and
`tests/formal/ecp5_cells.v`.
"""

from unittest.mock import patch

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib.memory import Memory

from tritstream.hw.primitives import ecp5

__all__ = ["on_ecp5"]

#: Low address bits that a data width in bits leaves unused.
_UNUSED = {18: 4, 9: 3, 4: 2, 2: 1, 1: 0}


def on_ecp5(component):
    """The component, without submodules, as it is built for an ECP5, with models of the cells."""
    plain = component.elaborate

    def elaborate(platform):
        cells = []

        def instance(kind, **ports):
            cells.append((_MODELS[kind], _Ports(ports)))
            return Module()

        with patch.object(ecp5, "Instance", instance):
            m = plain(ecp5.Ecp5())
        for model, ports in cells:
            model(m, ports)
        return m

    component.elaborate = elaborate
    return component


class _Ports:
    """Parameters, inputs and outputs of an instance, by name or by name and number of bits."""

    def __init__(self, ports: dict) -> None:
        self._ports = ports

    def parameter(self, name):
        return self._ports[f"p_{name}"]

    def input(self, name, width=None):
        if width is None:
            return Value.cast(self._ports[f"i_{name}"])[0]
        return Cat(self.input(f"{name}{bit}") for bit in range(width))

    def drive(self, m, name, value):
        m.d.comb += self._ports[f"o_{name}"].eq(value)

    def drive_bits(self, m, name, value):
        for bit in range(len(value)):
            self.drive(m, f"{name}{bit}", value[bit])


def _ccu2c(m, ports):
    carry = ports.input("CIN")
    for half in (0, 1):
        assert ports.parameter(f"INJECT1_{half}") == "NO"
        pins = Cat(ports.input(f"{pin}{half}") for pin in "ABCD")
        init = ports.parameter(f"INIT{half}")
        lut = Signal()
        m.d.comb += lut.eq(init.bit_select(pins, 1))
        ports.drive(m, f"S{half}", lut ^ carry)
        carry = Mux(lut, carry, init[:4].bit_select(pins[:2], 1))
    ports.drive(m, "COUT", carry)


def _lut4(m, ports):
    pins = Cat(ports.input(pin) for pin in "ABCD")
    ports.drive(m, "Z", ports.parameter("INIT").bit_select(pins, 1))


def _mult18x18d(m, ports):
    for name in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT"):
        assert ports.parameter(f"REG_{name}_CLK") == "CLK0"
    ports.input("C", 18)        # must be there, and is not used
    a, b = Signal(signed(18)), Signal(signed(18))
    middle, product = Signal(signed(36)), Signal(signed(36))
    with m.If(ports.input("CE0")):
        m.d.sync += [a.eq(ports.input("A", 18)), b.eq(ports.input("B", 18)), middle.eq(a * b),
                     product.eq(middle)]
    ports.drive_bits(m, "P", product)


def _dp16kd(m, ports):
    width = ports.parameter("DATA_WIDTH_A")
    assert width == ports.parameter("DATA_WIDTH_B") and ports.parameter("REGMODE_B") == "OUTREG"
    unused = _UNUSED[width]
    memory = Memory(shape=unsigned(width), depth=1 << 14 - unused, init=[])
    m.submodules += memory
    write = memory.write_port(granularity=9 if width == 18 else None)
    read, held = memory.read_port(), Signal(width)
    address = ports.input("ADA", 14)
    chosen = ports.input("CEA") & ports.input("WEA") & ~ports.input("CSA", 3).any()
    m.d.comb += [
        write.addr.eq(address[unused:]), write.data.eq(ports.input("DIA", 18)),
        # Of 18 bits, two address bits enable the bytes.
        write.en.eq(chosen.replicate(2) & address[:2] if width == 18 else chosen),
        read.addr.eq(ports.input("ADB", 14)[unused:]),
        read.en.eq(ports.input("CEB") & ~ports.input("WEB") & ~ports.input("CSB", 3).any()),
    ]
    # Outputs that the width leaves unused must not be read.
    ports.drive_bits(m, "DOB", Cat(held, Const((1 << 18 - width) - 1, 18 - width)))
    with m.If(ports.input("OCEB")):
        m.d.sync += held.eq(read.data)


_MODELS = {"CCU2C": _ccu2c, "DP16KD": _dp16kd, "LUT4": _lut4, "MULT18X18D": _mult18x18d}
