import re

import pytest
from amaranth import ClockSignal, Elaboratable, Instance, Module, Signal
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Fragment
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritstream.hw.tools import formal, synth
from tritstream.hw.tools.formal import Counterexample, Equal, Method, NotInductive, prove
from tritstream.hw.tools.synth import SynthError


class Counter(Elaboratable):
    """Counts steps up to a limit, which it never passes if it begins below it."""

    def __init__(self, limit=5, claim=5):
        self._limit = limit
        self._claim = claim

    def elaborate(self, platform):
        m = Module()
        count = Signal(4)
        with m.If(AnySeq(1) & (count != self._limit)):
            m.d.sync += count.eq(count + 1)
        m.d.comb += Assert(count <= self._claim)
        return m


class Doubler(wiring.Component):
    """Twice the input, a cycle later."""

    i: In(4)
    o: Out(5)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.i << 1)
        return m


class Adder(Doubler):
    """The same by addition, wrong for one input."""

    def __init__(self, wrong=None):
        self._wrong = wrong
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.i + self.i + (0 if self._wrong is None else
                                                 self.i == self._wrong))
        return m


class Foreign(Doubler):
    """The same in Verilog."""

    def elaborate(self, platform):
        m = Module()
        m.submodules.verilog = Instance("doubler", i_clk=ClockSignal(), i_i=self.i, o_o=self.o)
        return m


METHODS = [(Method.PDR, 0), (Method.INDUCTION, 3), (Method.BOUNDED, 12),
           (Method.BOUNDED_CONTROL, 12)]


@pytest.mark.long
@pytest.mark.parametrize("method, depth", METHODS)
def test_what_holds_is_proved_and_what_does_not_is_refuted(tmp_path, method, depth):
    assert prove(Counter(), tmp_path, method, depth).depth == depth
    with pytest.raises(Counterexample, match=rf"^assertion fails: {re.escape(__file__)}:\d+ in "
                                             r"cycle 5; waveform: (.*trace.vcd)$") as caught:
        prove(Counter(claim=4), tmp_path, method, 2 * depth)
    assert "count" in (tmp_path / "proof" / "engine_0" / "trace.vcd").read_text(), caught


@pytest.mark.long
def test_bounded_proof_does_not_see_beyond_its_depth(tmp_path):
    for method in (Method.BOUNDED, Method.BOUNDED_CONTROL):
        prove(Counter(claim=4), tmp_path, method, 5)


@pytest.mark.long
def test_induction_without_invariant_gives_no_verdict(tmp_path):
    with pytest.raises(NotInductive, match=r"^no verdict, see .*logfile.txt:\n(.*\n)*.*UNKNOWN"):
        prove(Counter(limit=5, claim=9), tmp_path, Method.INDUCTION, 2)


@pytest.mark.long
def test_twins_are_equal_and_an_error_is_found(tmp_path):
    prove(Equal(Doubler(), Adder()), tmp_path)
    with pytest.raises(Counterexample, match=r"in cycle 1;"):
        prove(Equal(Doubler(), Adder(wrong=11)), tmp_path)


@pytest.mark.long
def test_twin_in_verilog(tmp_path):
    path = tmp_path / "doubler.v"
    text = ("module doubler (input clk, input [3:0] i, output reg [4:0] o = 0);\n"
            "  always @(posedge clk) o <= i << 1;\nendmodule\n")

    def compare(verilog):
        path.write_text(verilog)
        prove(Equal(Doubler(), Foreign()), tmp_path, Method.INDUCTION, 2, (str(path),))

    compare(text)
    with pytest.raises(Counterexample, match=r"in cycle 1;"):
        compare(text.replace("i << 1", "i + i + (i == 11)"))


@pytest.mark.long
def test_twins_under_an_assumption(tmp_path):
    def assume(m, twin):
        m.d.comb += Assume(twin.i != 11)

    prove(Equal(Doubler(), Adder(wrong=11), assume), tmp_path)


def test_twins_have_the_same_members(tmp_path):
    class Other(wiring.Component):
        i: In(3)

        def elaborate(self, platform):
            return Module()

    pair = [Doubler(), Other()]
    for component in pair:
        Fragment.get(component, None)   # Amaranth warns of what is never elaborated
    with pytest.raises(ValueError, match=r"^components must have the same members, not .*In\(4\).* "
                                         r"and .*In\(3\)"):
        prove(Equal(*pair), tmp_path)


@pytest.mark.parametrize("method, depth", [(Method.PDR, 1), (Method.BOUNDED, 0)])
def test_wrong_depth(tmp_path, method, depth):
    with pytest.raises(ValueError, match=rf"^depth must be 0 for PDR and positive for other "
                                         rf"methods, not {depth} for {method.name}$"):
        prove(None, tmp_path, method, depth)


def test_missing_tools_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(synth, "_find", lambda _: None)
    with pytest.raises(SynthError, match=r"^yowasp-sby is missing: "
                                         r"pip install 'tritstream\[formal\]'$"):
        prove(Counter(), tmp_path)
    monkeypatch.setattr(synth, "_find", lambda _: "/bin/true")
    monkeypatch.setattr(formal, "find_spec", lambda _: None)
    with pytest.raises(SynthError, match=r"^pyosys is missing: "
                                         r"pip install 'tritstream\[formal\]'$"):
        prove(Counter(), tmp_path)
