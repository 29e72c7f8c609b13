"""Plant faults in the RTL and measure how soon the fuzz of docs/faults.md finds each.

    PYTHONPATH=tests python -m support.rtl_mutants [--cycles N] [-o MUTANTS.json] [NAME..]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tritstream.hw.config import DeviceConfig
from tritstream.scripts.assurance.rtl_fuzz.session import Tally, run_session
from tritstream.scripts.console import write_text
from tritstream.sim.build import build_native

__all__ = ["MUTANTS", "changed_output", "found_after", "mutant_rtl"]

ROOT = Path(__file__).parents[2]

#: Source files in ``hw/`` whose names are longer than in the table below.
FILES = {"activation": "activation_memory", "buffer": "stream_buffer", "check": "request_check",
         "control": "controller", "mantissas": "scale_mantissas", "results": "result_banks"}
#: Source file, the text that occurs there once, and its replacement.
MUTANTS = {
    "CRC of the trailer ignored":
        ("deframer", "self.frame_status.payload.eq(r.crc_ok & ~r.aborted)",
         "self.frame_status.payload.eq(~r.aborted)"),
    "CRC of the trailer not compared in full":
        ("deframer", "r.trailer[:CRC_BITS] == crc.crc", "r.trailer[:30] == crc.crc[:30]"),
    "CRC of the header ignored":
        ("deframer", "with m.If(crc.sound):", "with m.If(1):"),
    "hunt not ended by a header":
        ("deframer", "with m.If(crc.sound):\n                    m.d.sync += r.hunting.eq(0)",
         "with m.If(crc.sound):"),
    "hunt not ended by an abandoned frame":
        ("deframer", "with m.If(self.abandon):\n                m.d.sync += r.hunting.eq(0)",
         "with m.If(0):\n                m.d.sync += r.hunting.eq(0)"),
    "words lost in the padding of a payload":
        ("deframer", "with m.If(r.count == 0):\n                        self._enter",
         "with m.If(r.count <= 1):\n                        self._enter"),
    "wrong magic at one lane after a first byte":
        ("deframer", "with m.If(self.i.payload == self._magic):\n                self._begin",
         "with m.If(0):\n                self._begin"),
    "activations stay loaded while others come":
        ("check", "with m.If(self.begin_load | self.end_load):\n                    m.d.sync += "
                  "[loaded.eq(self.end_load), length",
         "with m.If(self.end_load):\n                    m.d.sync += [loaded.eq(1), length"),
    "scales stay loaded while others come":
        ("check", "m.d.sync += scales.eq(self.end_load)", "m.d.sync += scales.eq(1)"),
    "activations stay loaded after RESET":
        ("check", "with m.If(self.forget):\n                m.d.sync += loaded.eq(0)",
         "with m.If(0):\n                m.d.sync += loaded.eq(0)"),
    "a refused load unloads":
        ("control", "r.asked[Opcode.SCALES]) & accepted),", "r.asked[Opcode.SCALES])),"),
    "length not checked":
        ("check", "self._length_fault(m))", "self._length_fault(m) & 0)"),
    "columns not checked":
        ("check", '| _late(m, (columns == 0) | (columns > config.columns), "columns")', ""),
    "error of the highest code reported":
        ("check", "for code in reversed(found):", "for code in found:"),
    "error 6 does not outrank":
        ("control", "with m.If(~r.crc_ok):", "with m.If(~r.crc_ok & (r.error == 0)):"),
    "words of a GEMV not counted":
        ("control", "with m.If(r.runs_gemv & ~self.gemv.complete):", "with m.If(0):"),
    "a bad mantissa remembered":
        ("loader", "[first.eq(1), self.bad_mantissa.eq(0)]", "[first.eq(1)]"),
    "sequence of the frame before in ERROR 1":
        ("answers", "answer.sequence.eq(Mux(lost, 0, header.sequence))",
         "answer.sequence.eq(header.sequence)"),
    "counters kept over RESET":
        ("counters", "self.frames_bad.eq(0),\n", "\n"),
    "credit lost when a bank is freed as one is reserved":
        ("results", "free.eq(free - self.reserve + release)",
         "free.eq(free - self.reserve + (release & ~self.reserve))"),
    "credit not waited for":
        ("sequencer", "~next_end | self.credit", "~next_end | 1"),
    "a bank reserved for a block cut short":
        ("sequencer", "self.block_end.eq(take & end)",
         "self.block_end.eq(take & (end | self.words.p.last))"),
    "trailer sent before its CRC is there":
        ("sealer", "~(unsealed.trailer & pending.any())", "~(unsealed.trailer & pending[0])"),
    "a word dropped when both sides stall":
        ("buffer", "next_full.eq((taken | full) & self.o.valid & ~self.o.ready)",
         "next_full.eq((taken & ~full) & self.o.valid & ~self.o.ready)"),
    "length of groups not checked":
        ("check", '| _late(m, lengths[fields.depth[:2]], "long_group")', ""),
    "scales asked for with direct mantissas":
        ("check", "missing = ~scales & ~fields.direct", "missing = ~scales"),
    "a group not ended by its row":
        ("sequencer", "(length == job.length_last) | (chunk == job.chunk_last)",
         "length == job.length_last"),
    "length not counted anew after a group":
        ("sequencer", "[chunk.eq(chunk + 1), length.eq(0), first.eq(0)]",
         "[chunk.eq(chunk + 1), first.eq(0)]"),
    "direct mantissas written over the table":
        ("mantissas", "return Cat(row, odd, Const(0b10, 2))",
         "return Cat(row, odd, Const(0b00, 2))"),
    "third mantissa from one word":
        ("mantissas", "direct.append(Cat(before, self.bytes[-1]))",
         "direct.append(Cat(self.bytes[-1], self.bytes[-1]))"),
    "codes looked up behind direct mantissas":
        ("mantissas", "with m.If(self.direct):\n            m.d.sync += complete.eq(0)",
         "with m.If(0):\n            m.d.sync += complete.eq(0)"),
    "activations written from where the last load ended":
        ("activation", "m.d.comb += memory.write_addr.eq(0)",
         "m.d.comb += memory.write_addr.eq(write_row)"),
}


def mutant_rtl(name, config):
    """Return the Verilog of a device whose sources have the fault."""
    module, before, after = MUTANTS[name]
    return changed_output(f"*/{FILES.get(module, module)}.py", before, after, (
        "from tritstream.hw.config import DeviceConfig; "
        "from tritstream.hw.tools.export import device_verilog; "
        f"print(device_verilog({config!r}))"))


def changed_output(pattern, before, after, program):
    """Return what a program prints if a text, which occurs once, in a source of ``hw/`` is other.

    ``pattern`` finds the source.
    """
    with tempfile.TemporaryDirectory(prefix="tritstream-") as folder:
        package = Path(folder) / "tritstream"
        for room in ("tritstream", "hw", "golden"):
            shutil.copytree(ROOT / room, package if room == "tritstream" else package / room,
                            ignore=shutil.ignore_patterns("__pycache__"))
        source, = package.glob(f"hw/{pattern}")
        text = source.read_text()
        assert text.count(before) == 1, (before, text.count(before))
        source.write_text(text.replace(before, after))
        return subprocess.run([sys.executable, "-c", program], cwd=folder, text=True, check=True,
                              env={**os.environ, "PYTHONPATH": folder}, capture_output=True).stdout


def found_after(name, config, cycles, seed=0):
    """Return sessions, cycles and the message with which the fault is found, or None."""
    library = build_native(config.lanes, mutant_rtl(name, config)).library
    tally = Tally()
    while tally.cycles < cycles:
        _, fault = run_session(library, config, seed, tally.sessions, tally)
        if fault:
            return {"lanes": config.lanes, "columns": config.columns, "sessions": tally.sessions,
                    "cycles": tally.cycles, "found": fault}
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=5_000_000)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("names", nargs="*", default=list(MUTANTS))
    options, found = parser.parse_args(), {}
    for name in options.names:
        # One lane is where a header's magic spans two words; two columns have more to forget.
        config = DeviceConfig(1) if "one lane" in name else DeviceConfig(8, 2, 256)
        found[name] = found_after(name, config, options.cycles)
        seen = found[name] or {"cycles": "-", "found": "not found"}
        print(f"{name:52} {seen['cycles']:>9}  {seen['found']}", flush=True)
        if options.output:
            write_text(options.output, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
