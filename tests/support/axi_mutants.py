"""Plant faults in the memory-mapped core and measure how soon the fuzz finds each.

    PYTHONPATH=tests python -m support.axi_mutants [--cycles N] [-o MUTANTS.json] [NAME..]
"""

import argparse
import json
from pathlib import Path

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.assurance.axi_fuzz.session import Tally, run_session
from tritstream.scripts.console import write_text
from tritstream.sim.axi_build import build_axi

from support.rtl_mutants import changed_output

__all__ = ["CONFIG", "MUTANTS", "found_after"]

#: Small bursts and a small buffer reach their limits often.
CONFIG = AxiConfig(DeviceConfig(8, 1, 1024), channels=1, burst=16, outstanding=4, depth=64)
#: Source file in ``hw/axi/``, the text that occurs there once, and its replacement.
MUTANTS = {
    "error of a read ignored":
        ("burst_reader", "(bus.rresp == 0) & (bus.rlast == last)", "(bus.rlast == last)"),
    "words given after an error":
        ("burst_reader", "(bus.rlast == last) & (self.error == Error.NONE)),",
         "(bus.rlast == last)),"),
    "words requested without room":
        ("burst_reader", "with m.Elif((self.room >= beats) & bursts.w_rdy):",
         "with m.Elif(bursts.w_rdy):"),
    "more bursts outstanding than are remembered":
        ("burst_reader", "with m.Elif((self.room >= beats) & bursts.w_rdy):",
         "with m.Elif(self.room >= beats):"),
    "bursts across a page":
        ("burst_reader", "space.eq((1 << place) - at[:place])", "space.eq(1 << place)"),
    "address withdrawn":
        ("burst_reader", "with m.If(bus.arready):\n                    m.d.sync += bus.arvalid",
         "with m.If(1):\n                    m.d.sync += bus.arvalid"),
    "descriptor cut short by a unit":
        ("burst_reader", "left.eq(job.length)]", "left.eq(job.length - (job.length > 40))]"),
    "a failed write counted":
        ("burst_writer", "with m.If(bus.bresp == 0):", "with m.If(1):"),
    "ring overrun":
        ("burst_writer", "free.eq(self.size - (issued - self.taken))", "free.eq(self.size)"),
    "WLAST a word early":
        ("burst_writer", "bus.wlast.eq(left == 1)", "bus.wlast.eq((left == 1) | (left == 2))"),
    "bursts across the end of the ring":
        ("burst_writer", "space.eq(self._burst - offset[:place])", "space.eq(self._burst)"),
    "restart without waiting for bursts":
        ("control", "with m.If((wait == 0) & self.idle):", "with m.If(wait == 0):"),
    "restart by any number":
        ("control", "with m.If(written & (self.value == (session + 1)[:32])):",
         "with m.If(written):"),
    "end of a descriptor not checked":
        ("control", "with m.Elif(end > self._memory):", "with m.Elif(0):"),
    "end of a descriptor wraps around":
        ("control", "end    = Signal(33)", "end    = Signal(32)"),
    "index not checked":
        ("control", "with m.Elif(self.value != tail):", "with m.Elif(0):"),
    "descriptors taken after an error":
        ("control", 'with m.If(~self._running | (registers["error"] != Error.NONE)):',
         "with m.If(~self._running):"),
    "error replaced by a later one":
        ("control", "Mux(first != Error.NONE, first, latest)", "latest"),
    "size of the memory effective at once":
        ("control", "with m.Elif(end > self._memory):",
         'with m.Elif(end > registers["memory"]):'),
    "more released than was written":
        ("control", "with m.Elif(written & (ahead <= most)):", "with m.Elif(written):"),
    "interrupt at one count only":
        ("control", "Status.REACHED: ~reached[31]", "Status.REACHED: reached == 0"),
    "impossible rings taken":
        ("control", "((ring & (ring - 1)) == 0)", "1"),
    "descriptors kept over a restart":
        ("channel", "ResetInserter(control.clear)(queue)", "queue"),
    "engine not reset":
        ("channel", "reset.eq(control.stop | control.clear)", "reset.eq(0)"),
    "words kept over a restart":
        ("channel", "ResetInserter(control.clear)(reader)", "reader"),
    "unknown registers not refused":
        ("lite_port", "bus.bresp.eq(Mux(known, OKAY, SLVERR))", "bus.bresp.eq(OKAY)"),
}


def found_after(name, cycles, seed=0):
    """Return sessions, cycles and the message with which the fault is found, or None."""
    module, before, after = MUTANTS[name]
    rtl = changed_output(f"axi/{module}.py", before, after, (
        "from tritstream.hw.axi.config import AxiConfig; "
        "from tritstream.hw.config import DeviceConfig; "
        "from tritstream.hw.axi.verilog import axi_plain; "
        f"print(axi_plain({CONFIG!r}))"))
    build, tally = build_axi(CONFIG, rtl), Tally()
    while tally.cycles < cycles:
        if fault := run_session(build, CONFIG, seed, tally.sessions, tally):
            return {"sessions": tally.sessions, "cycles": tally.cycles, "found": fault}
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=5_000_000)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("names", nargs="*", default=list(MUTANTS))
    options, found = parser.parse_args(), {}
    for name in options.names:
        found[name] = found_after(name, options.cycles)
        seen = found[name] or {"cycles": "-", "found": "not found"}
        print(f"{name:45} {seen['cycles']:>9}  {seen['found']}", flush=True)
        if options.output:
            write_text(options.output, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
