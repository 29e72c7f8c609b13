"""Cells of AMD 7-series and UltraScale+ that synthesis does not infer, or does not use completely.

Sources: AMD UG474, UG473 and UG479, 7 Series FPGAs: Configurable Logic Block, Memory Resources, and
DSP48E1 Slice; UG574, UG573 and UG579, the same for the UltraScale architecture (DSP48E2).
"""

from dataclasses import dataclass
from typing import ClassVar

from amaranth import Cat, ClockSignal, Const, Instance, Signal

__all__ = ["XC7", "XCUP", "Xilinx"]

#: LUT4 of ``I0 ^ ((I1 ^ I2) & I3)``: total, x, negative, nonzero.
_ADD = sum(((i ^ (i >> 1 ^ i >> 2) & i >> 3) & 1) << i for i in range(16))
#: Operation modes of a DSP block: P = M, and P = M + C.
_PRODUCT, _PRODUCT_PLUS_C = 0b000_01_01, 0b011_01_01
#: Input mode of a DSP block: the multiplier gets D + A.
_D_PLUS_A = 0b00100
#: Lowest bit of the second of two sums in a DSP block. The D of a DSP48E1 has two bits above it.
_HIGH = 22
#: Bits of C and P of a DSP block.
_DSP_BITS = 48
#: Address bits of a block memory.
_ADDRESS_BITS = 14


@dataclass(frozen=True)
class Xilinx:
    """Cells of one FPGA family. The object is also a platform that selects them in ``elaborate``.

    Parameters
    ----------
    family : str
        Name of the family in Yosys.
    carry_bits : int
        Bits of a carry cell.
    dsp : str
        Type of the multiplier cell.
    mode_bits, preadder_bits : int
        Widths of the inputs OPMODE and D of the multiplier cell.
    ram : str
        Type of the block memory cell.
    ram_stems : tuple of str
        Names of its data inputs and outputs, without the name of the port.
    """

    family:        str
    carry_bits:    int
    dsp:           str
    mode_bits:     int
    preadder_bits: int
    ram:           str
    ram_stems:     tuple[str, str]

    #: Data width in bits of a block RAM by its number of rows.
    BLOCK_DEPTHS: ClassVar[dict[int, int]] = {
        512: 36, 1024: 18, 2048: 9, 4096: 4, 8192: 2, 16384: 1}

    def gated_add(self, m, total, x, trit, result):
        """Add ``result = total + x * trit`` as one carry chain with one LUT4 per bit.

        The LUT decides whether the carry passes a bit; otherwise the carry out is the bit of
        ``total``. Synthesis would add a second LUT per bit for the gate. The carry into bit 0 turns
        the complement into a negation. The parameters are those of :func:`.ecp5.gated_add`.
        """
        carry = trit.negative
        for low in range(0, len(result), self.carry_bits):
            passes, data, sums, carries = (Signal(self.carry_bits) for _ in range(4))
            part = slice(low, low + self.carry_bits)
            for one, other, choice in zip(total[part], x[part], passes, strict=False):
                m.submodules += Instance(
                    "LUT4", p_INIT=Const(_ADD, 16), i_I0=one, i_I1=other, i_I2=trit.negative,
                    i_I3=trit.nonzero, o_O=choice)
            # The first CARRY4 has its own pin for a carry that comes from logic.
            pins = (carry, 0) if self.carry_bits == 8 or low else (0, carry)
            m.submodules += Instance(
                f"CARRY{self.carry_bits}", i_S=passes, i_DI=data, o_O=sums, o_CO=carries,
                i_CI=pins[0], **{"i_CI_TOP" if self.carry_bits == 8 else "i_CYINIT": pins[1]})
            m.d.comb += [data.eq(total[part]), result[part].eq(sums)]
            carry = carries[-1]

    def multiply(self, m, a, b, product):
        """Add ``product = a * b``, signed 18 by 18 bits, with a latency of 3 cycles."""
        self._dsp_block(m, product, A=1, B=1, M=1, P=1, i_A=_extended(a, 30), i_B=_extended(b, 18),
                        i_OPMODE=Const(_PRODUCT, self.mode_bits))

    def multiply_add(self, m, a, b, addend, clear, total):
        """Add ``total = a * b + addend`` as one DSP block.

        The latency is 4 cycles for the factors, and 2 for the addend and for ``clear``, which
        stands for an addend of zero.
        """
        self._dsp_block(m, total, A=2, B=2, C=1, M=1, P=1, i_A=_extended(a, 30),
                        i_B=_extended(b, 18), i_C=_extended(addend, _DSP_BITS), i_RSTC=clear,
                        i_OPMODE=Const(_PRODUCT_PLUS_C, self.mode_bits))

    def accumulate_pair(self, m, x, nonzero, negative, clear, sums):
        """Add two accumulators of ``x`` times a trit, :class:`.AccumulatorPair`, as one DSP block.

        The block adds the trits to one factor, of which the second begins at :data:`_HIGH`.
        """
        stop, run = Signal(), Signal(init=1)
        whole = Signal(_DSP_BITS)
        high  = slice(_HIGH, _HIGH + len(sums[1]))
        m.d.sync += [stop.eq(clear), run.eq(~clear)]
        m.d.comb += [sums[0].eq(whole), sums[1].eq(whole[high])]
        adder = {"p_USE_DPORT": "TRUE"} if self.dsp == "DSP48E1" else {"p_AMULTSEL": "AD"}
        self._dsp_block(
            m, whole, AD=1, B=1, C=1, M=1, P=1, OPMODE=1, **adder, i_INMODE=Const(_D_PLUS_A, 5),
            i_A=_extended(Cat(nonzero[0], negative[0]), 30),
            i_D=_extended(Cat(Const(0, _HIGH), nonzero[1], negative[1]), self.preadder_bits),
            i_B=_extended(x, 18), i_C=Const(1 << _HIGH - 1, _DSP_BITS),
            # P + M, or C alone.
            i_OPMODE=Cat(run, Const(0, 1), run, Const(0, 1), stop, Const(1, self.mode_bits - 5)))

    def _dsp_block(self, m, result, **settings):
        """Add a DSP block with the given numbers of registers; settings with ``_`` are ports."""
        names = ("A", "B", "C", "D", "AD", "M", "P", "ALUMODE", "CARRYIN", "CARRYINSEL", "INMODE",
                 "OPMODE")
        counts = {name: settings.pop(name, 0) for name in names}
        whole  = Signal(_DSP_BITS)
        m.submodules += Instance(self.dsp, **{
            **{f"p_{name}REG": count for name, count in counts.items()},
            "p_ACASCREG": counts["A"], "p_BCASCREG": counts["B"],
            **{f"i_CE{name}": 1 for name in ("A1", "A2", "B1", "B2", "C", "D", "AD", "M", "P",
                                             "ALUMODE", "CARRYIN", "CTRL", "INMODE")},
            **{f"i_RST{name}": 0 for name in ("A", "B", "C", "D", "M", "P", "ALLCARRYIN", "ALUMODE",
                                              "CTRL", "INMODE")},
            "i_CLK": ClockSignal(), "i_C": Const(0, _DSP_BITS), "i_D": Const(0, self.preadder_bits),
            "i_ALUMODE": Const(0, 4), "i_INMODE": Const(0, 5), "i_CARRYIN": 0,
            "i_CARRYINSEL": Const(0, 3), "o_P": whole, **settings})
        m.d.comb += result.eq(whole[:len(result)].as_signed())

    def block_ram(self, m, depth, write, read):
        """Add a memory with one write port and one read port, made of blocks with output register.

        The parameters are those of :func:`.ecp5.block_ram`.
        """
        width = next(width for most, width in self.BLOCK_DEPTHS.items() if depth <= most)
        for low in range(0, len(write[2]), width):
            self._block(m, (width, width), (*write[:2], write[2][low:low + width]),
                        (*read[:2], read[2][low:low + width]))

    def pair_ram(self, m, write, read):
        """Add a memory that is written in pairs of rows of up to 18 bits, and read row by row.

        It is one block. The parameters are those of :func:`.ecp5.pair_ram`.
        """
        enable, address, pair = write
        width = len(read[2])
        wide  = Cat(pair[:width], Const(0, 18 - width), pair[width:])
        self._block(m, (36, 18), (enable, address, wide), read)

    def _block(self, m, widths, write, read):
        """Add one RAMB18: port A reads, port B writes, and 36 bits use the pins of both ports.

        ``widths`` are those of the rows that are written and read.
        """
        unused = {36: 5, 18: 4, 9: 3, 4: 2, 2: 1, 1: 0}     # unused low address bits
        into, out = Signal(36), Signal(36)
        m.d.comb += [into.eq(write[2]), read[2].eq(out)]
        halves = (into[:18], into[18:]) if widths[0] == 36 else (Const(0, 18), into[:18])
        write_stem, read_stem = self.ram_stems
        ports = {"p_RAM_MODE": "SDP" if 36 in widths else "TDP"} if self.ram == "RAMB18E1" else {}
        for port, written, found in zip("AB", halves, (out[:18], out[18:]), strict=True):
            ports |= _data_pins(f"i_{write_stem}", port, write_stem, written)
            ports |= _data_pins(f"o_{read_stem}", port, read_stem, found)
        m.submodules += Instance(
            self.ram, **ports, p_READ_WIDTH_A=widths[1], p_WRITE_WIDTH_A=0, p_READ_WIDTH_B=0,
            p_WRITE_WIDTH_B=widths[0], p_DOA_REG=1, p_DOB_REG=1, p_WRITE_MODE_A="READ_FIRST",
            p_WRITE_MODE_B="READ_FIRST",
            i_CLKARDCLK=ClockSignal(), i_ENARDEN=read[0], i_REGCEAREGCE=read[0],
            i_RSTRAMARSTRAM=0, i_RSTREGARSTREG=0, i_WEA=Const(0, 2),
            i_ADDRARDADDR=_address(read[1], unused[widths[1]]),
            i_CLKBWRCLK=ClockSignal(), i_ENBWREN=write[0], i_REGCEB=0, i_RSTRAMB=0, i_RSTREGB=0,
            i_WEBWE=Const(0b1111, 4),
            i_ADDRBWRADDR=_address(write[1], unused[widths[0]]))


def _data_pins(start, port, end, word):
    """Return the data pins and the parity pins of a port, for two bytes of nine bits."""
    return {f"{start}{port}{end}": Cat(word[:8], word[9:17]),
            f"{start}P{port}{end}P": Cat(word[8], word[17])}


def _address(row, low):
    """Return an address of a block memory, with ``low`` zeros below the row."""
    return Cat(Const(0, low), row, Const(0, _ADDRESS_BITS - low - len(row)))


def _extended(value, width):
    """Return a signed value with its sign repeated up to ``width`` bits."""
    return Cat(value, value[-1].replicate(width - len(value)))


XC7  = Xilinx("xc7",  4, "DSP48E1", 7, 25, "RAMB18E1", ("DI", "DO"))
XCUP = Xilinx("xcup", 8, "DSP48E2", 9, 27, "RAMB18E2", ("DIN", "DOUT"))
