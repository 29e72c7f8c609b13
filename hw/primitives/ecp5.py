"""Cells of the Lattice ECP5 that Yosys does not infer, or does not use completely.

Sources: Lattice FPGA-DS-02012, ECP5 and ECP5-5G Family Data Sheet; FPGA-TN-02204, ECP5 and
ECP5-5G Memory Usage Guide; FPGA-TN-02205, ECP5 and ECP5-5G sysDSP Usage Guide.
"""

from amaranth import Cat, ClockSignal, Const, Instance, Signal

from tritstream.hw.primitives.shared_terms import share_terms

__all__ = [
    "BLOCK_DEPTHS",
    "SYNTH_FILES",
    "SYNTH_SCRIPT",
    "Ecp5",
    "block_ram",
    "exclusive_ors",
    "gated_add",
    "multiply",
    "pair_ram",
]


class Ecp5:
    """Platform stand-in that selects the ECP5 cells without the platform of a board."""

    family = "ecp5"


def _init(function):
    """Return the INIT value of a LUT4 with inputs A, B, C, D."""
    return sum((function(i & 1, i >> 1 & 1, i >> 2 & 1, i >> 3) & 1) << i for i in range(16))


#: LUT of A + (D ? B : 0), or of A - B if C is also set. The carry mux of a half passes the carry
#: in, or selects A, as the LUT decides.
_ADD = _init(lambda a, b, c, d: a ^ (b & d) ^ c)
#: With C = 1, A becomes the carry out, whatever the carry in. This value marks the start of a
#: chain for the synthesis scripts.
_START = _init(lambda a, b, c, d: a & ~c & ~d)
_XOR   = _init(lambda a, b, c, d: a ^ b ^ c ^ d)


# nextpnr adds a cell in front of a chain whose CIN is driven, even by a constant, and a cell behind
# a chain whose COUT has a net, even an unused one. Both ports must stay unconnected, which an x in
# the netlist achieves.
_MAP = """(* techmap_celltype = "CCU2C" *)
module {name} (input CIN, A0, B0, C0, D0, A1, B1, C1, D1, output S0, S1, COUT);
  parameter [15:0] INIT0 = 0;
  parameter [15:0] INIT1 = 0;
  parameter INJECT1_0 = "YES";
  parameter INJECT1_1 = "YES";
  parameter _TECHMAP_CONSTMSK_CIN_ = 0;
  parameter _TECHMAP_CONSTVAL_CIN_ = 0;
  wire _TECHMAP_FAIL_ = {fail};
  {cell} #(.INIT0(INIT0), .INIT1(INIT1), .INJECT1_0(INJECT1_0), .INJECT1_1(INJECT1_1))
    _TECHMAP_REPLACE_ (.A0(A0), .B0(B0), .C0(C0), .D0(D0), .A1(A1), .B1(B1), .C1(C1), .D1(D1),
                       .S0(S0), .S1(S1), .CIN({cin}), .COUT({cout}));
endmodule
"""

#: Files that :data:`SYNTH_SCRIPT` reads: text by file name.
SYNTH_FILES = {
    "carry_start.map": _MAP.format(
        name="carry_start", cell="CCU2C", cin="1'bx", cout="COUT",
        fail=f"!(INIT0 == {_START} && _TECHMAP_CONSTMSK_CIN_ == 1 "
             "&& _TECHMAP_CONSTVAL_CIN_ === 1'b0)"),
    "carry_end.map": _MAP.format(
        name="carry_end", cell="CCU2C_END", cin="CIN", cout="1'bx", fail="0"),
}

#: Yosys commands to run after ``synth_ecp5``. They save two or four LUT4 per carry chain.
SYNTH_SCRIPT = """\
techmap -map carry_start.map t:CCU2C
select -set carries t:CCU2C %ci1:+[CIN] w:* %i
select -set drivers @carries %ci1:+[COUT] t:CCU2C %i
select -set ends t:CCU2C @drivers %d
techmap -map carry_end.map @ends
chtype -set CCU2C t:CCU2C_END
"""


def gated_add(m, total, x, trit, result):
    """Add ``result = total + x * trit`` as one carry chain with one LUT4 per bit.

    Each LUT4 computes ``A ^ (B & D) ^ C`` with A = total, B = x, C = negative, D = nonzero.
    Synthesis would use a second LUT4 per bit for the gate. The carry in turns the complement into a
    negation; it comes from half a cell below bit 0.

    Parameters
    ----------
    m : Module
        Module to which the cells are added.
    total, x : Value
        Operands, as wide as ``result``.
    trit : :data:`tritstream.hw.interfaces.Trit`
        Factor of ``x``: -1, 0 or 1.
    result : Signal
        Sum modulo 2 to the number of its bits.
    """
    zero, one = Const(0, 1), Const(1, 1)
    halves = [(_START, trit.negative, zero, one, zero, Signal())]
    halves += [(_ADD, total[bit], x[bit], trit.negative, trit.nonzero, result[bit])
               for bit in range(len(result))]
    if len(halves) % 2:
        halves.append((0, zero, zero, zero, zero, Signal()))
    carry = zero
    for low, high in zip(halves[::2], halves[1::2], strict=True):
        ports = {"p_INJECT1_0": "NO", "p_INJECT1_1": "NO", "i_CIN": carry}
        for half, (init, a, b, c, d, s) in enumerate((low, high)):
            ports |= {f"p_INIT{half}": Const(init, 16), f"i_A{half}": a, f"i_B{half}": b,
                      f"i_C{half}": c, f"i_D{half}": d, f"o_S{half}": s}
        carry = Signal()
        m.submodules += Instance("CCU2C", **ports, o_COUT=carry)


def exclusive_ors(m, value, sums):
    """Return a value of which bit n is the exclusive or of the bits ``sums[n]`` of ``value``.

    Terms are shared between the sums. Synthesis finds hardly any of them, and makes longer paths.
    """
    terms, sums = share_terms(sums, len(value))
    bits = list(value)
    bits += [_exclusive_or(m, [bits[bit] for bit in term]) for term in terms]
    result = []
    for members in sums:
        # Terms come a level later than bits, so they go last into the tree.
        queue = [bits[member] for member in sorted(members)]
        while len(queue) > 1:
            size = (len(queue) - 2) % 3 + 2     # 4, after a first gate that may be smaller
            queue = [*queue[size:], _exclusive_or(m, queue[:size])]
        result += queue or [Const(0, 1)]
    return Cat(result)


def _exclusive_or(m, bits):
    """Return the exclusive or of up to four bits, as one LUT4."""
    result = Signal()
    padded = [*bits, *[Const(0, 1)] * (4 - len(bits))]
    m.submodules += Instance("LUT4", p_INIT=Const(_XOR, 16), o_Z=result, **{
        f"i_{name}": bit for name, bit in zip("ABCD", padded, strict=True)})
    return result


def multiply(m, a, b, product):
    """Add ``product = a * b`` as one DSP block, signed 18 by 18 bits, with a latency of 3 cycles.

    The inputs, the pipeline stage and the output of the block are registered.
    """
    ports = _bits("i_A", a, 18) | _bits("i_B", b, 18) | _bits("i_C", Const(0, 18), 18)
    for name in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT"):
        ports |= {f"p_REG_{name}_CLK": "CLK0", f"p_REG_{name}_CE": "CE0",
                  f"p_REG_{name}_RST": "RST0"}
    for number in range(1, 4):
        ports |= {f"i_CLK{number}": 0, f"i_CE{number}": 0, f"i_RST{number}": 0}
    whole = Signal(36)
    m.submodules += Instance(
        "MULT18X18D", **ports, **{f"o_P{bit}": whole[bit] for bit in range(36)},
        p_GSR="DISABLED", p_RESETMODE="SYNC",
        i_CLK0=ClockSignal(), i_CE0=1, i_RST0=0, i_SIGNEDA=1, i_SIGNEDB=1, i_SOURCEA=0,
        i_SOURCEB=0)
    m.d.comb += product.eq(whole[:len(product)].as_signed())


#: Data width in bits of a block RAM by its number of rows. A width of 36 bits would use the pins
#: of both ports: see :func:`pair_ram`.
BLOCK_DEPTHS = {1024: 18, 2048: 9, 4096: 4, 8192: 2, 16384: 1}


def block_ram(m, depth, write, read):
    """Add a memory with one write port and one read port, made of DP16KD with output register.

    Parameters
    ----------
    m : Module
        Module to which the cells are added.
    depth : int
        Number of rows, at most 16384.
    write, read : tuple of Value
        Enable, address and data of each port. Read data has a latency of two cycles.
    """
    width = next(width for most, width in BLOCK_DEPTHS.items() if depth <= most)
    for low in range(0, len(write[2]), width):
        _block(m, (width, width), (*write[:2], write[2][low:low + width]),
               (*read[:2], read[2][low:low + width]))


def pair_ram(m, write, read):
    """Add a memory that is written in pairs of rows of up to 18 bits and read row by row.

    It is one DP16KD with output register. Its data pins of both ports take the pair that is
    written, the first row in the low half.

    Parameters
    ----------
    m : Module
        Module to which the cell is added.
    write, read : tuple of Value
        Enable, address and data of each port, for up to 512 pairs. The address of a row has one bit
        more than that of its pair. Read data has a latency of two cycles.
    """
    enable, address, pair = write
    width = len(read[2])
    wide  = Cat(pair[:width], Const(0, 18 - width), pair[width:])
    _block(m, (36, 18), (enable, address, wide), read)


def _block(m, widths, write, read):
    """Add one DP16KD: port A writes, port B reads. ``widths`` are those of their rows in bits."""
    unused = {36: 5, 18: 4, 9: 3, 4: 2, 2: 1, 1: 0}     # unused low address bits
    enable = {36: 0b1111, 18: 0b11}.get(widths[0], 0)   # some of them select bytes
    data   = Signal(18)
    m.d.comb += read[2].eq(data)
    m.submodules += Instance(
        "DP16KD", p_DATA_WIDTH_A=widths[0], p_DATA_WIDTH_B=widths[1], p_REGMODE_A="NOREG",
        p_REGMODE_B="OUTREG", p_RESETMODE="SYNC", p_ASYNC_RESET_RELEASE="SYNC",
        p_WRITEMODE_A="NORMAL", p_WRITEMODE_B="NORMAL", p_CSDECODE_A="0b000",
        p_CSDECODE_B="0b000", p_GSR="DISABLED",
        i_CLKA=ClockSignal(), i_CEA=write[0], i_WEA=1, i_OCEA=0, i_RSTA=0,
        i_CLKB=ClockSignal(), i_CEB=read[0], i_WEB=0, i_OCEB=read[0], i_RSTB=0,
        **{f"i_CS{port}{bit}": 0 for port in "AB" for bit in range(3)},
        **_bits("i_ADA", Cat(Const(enable, unused[widths[0]]), write[1]), 14),
        **_bits("i_ADB", Cat(Const(0, unused[widths[1]]), read[1]), 14),
        **_bits("i_DIA", write[2][:18], 18), **_bits("i_DIB", write[2][18:], 18),
        **{f"o_DOB{bit}": data[bit] for bit in range(18)})


def _bits(name, value, width):
    """Return the single-bit inputs of a cell, zero above the bits of the value."""
    return {f"{name}{bit}": value[bit] if bit < len(value) else 0 for bit in range(width)}
