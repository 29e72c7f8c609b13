"""Command that measures how much of a memory's bandwidth reaches the lanes."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from tritstream.golden.activation import quantize_activation
from tritstream.golden.checkpoints.generated import GeneratedTensor
from tritstream.golden.fixed_point import ROWS
from tritstream.golden.gemv import gemv
from tritstream.golden.matrix import TritMatrix
from tritstream.golden.model_sizes import QWEN25
from tritstream.golden.quantize import quantize
from tritstream.host.layout.prepare import prepare
from tritstream.host.protocol.frames import Answer, answers, padded
from tritstream.host.protocol.operands import mantissa_bytes
from tritstream.host.protocol.records import Stats
from tritstream.hw.protocol import Opcode
from tritstream.scripts.console import (
    Failure,
    console,
    print_json,
    reports_errors,
    table,
    write_json,
)
from tritstream.scripts.options import Depth, Json, Memory, MemoryClock, Report
from tritstream.scripts.request_bytes import request_bytes
from tritstream.scripts.running.stream import generated_activations
from tritstream.sim.board import SimulatedBoard
from tritstream.sim.soc_build import SocChoice

__all__ = ["bandwidth", "measure"]

_SEED = 2026
_FOREVER = 1 << 40
#: Rows of a bank that are enough for small matrices.
_ROWS = 2048
_SHAPES = ["896x4864"]


@reports_errors
def bandwidth(
    memory: Memory = "mt41k256m16",
    shape: Annotated[list[str], typer.Option(
        help="Shape NxK of a matrix, or a size of Qwen2.5 for the matrices of one layer. May be "
             "repeated; all matrices run from one list.")] = _SHAPES,
    depth: Depth = 3,
    readers: Annotated[int, typer.Option(
        min=1, max=2, help="Number of memory ports that read weights.")] = 2,
    prefetch: Annotated[int, typer.Option(
        min=2, help="Words that each port may request in advance.")] = 32,
    stretch: Annotated[int | None, typer.Option(
        help="Words that one port reads before the other takes over.",
        show_default="one row of a bank")] = None,
    postpone: Annotated[int, typer.Option(
        min=1, max=8, help="Number of refreshes that are done together.")] = 8,
    stock: Annotated[bool, typer.Option("--stock", help="Use LiteDRAM's own refresh time.")] =
        False,
    clock: MemoryClock = None,
    whole: Annotated[bool, typer.Option(
        "--whole", help="Simulate the complete memory, not only 2048 rows per bank.")] = False,
    check: Annotated[bool, typer.Option(
        "--check", help="Check the timing of every memory command; the simulation then takes twice "
                        "as long.")] = False,
    report: Report = None,
    as_json: Json = False,
):
    """Multiply matrices from a simulated memory, and report where the cycles went.

    All matrices run from one list of descriptors. Every row is compared with golden.
    """
    changes = {"postponing": postpone, **({"refresh_ns": None} if stock else {}),
               **({"clock_hz": round(clock * 1e6)} if clock else {})}
    parts = {"readers": readers, "depth": prefetch, "stretch": stretch}
    choice = SocChoice(memory, None if whole else _ROWS, checks=check, link=False,
                       changes=changes, parts=parts)
    console.print("building the simulated board (a minute the first time)")
    found = {"command": _command(), **measure(choice, list(_shapes(shape)), depth)}
    if report:
        write_json(report, found)
    print_json(found) if as_json else _show(found)
    if found["mismatches"] or found["violations"]:
        raise Failure(f"{found['mismatches']} rows differ from golden, {found['violations']} "
                      f"commands break the memory's timing {found['first_violation']}".rstrip())


def _command() -> str:
    """Command line without the options that only say where the report goes."""
    words = iter(sys.argv[1:])
    kept = [word for word in words if word != "--json" and not (
        word == "--report" and next(words, None))]
    return " ".join(["tritstream", *kept])


def measure(choice: SocChoice, shapes: list[tuple[int, int]], depth: int) -> dict:
    """Multiply generated matrices (N, K) from one list of descriptors; return the report."""
    with SimulatedBoard(choice) as board:
        jobs = [_Job.of(shape, depth, place) for place, shape in enumerate(shapes)]
        size = sum(len(job.frames(board.build.lanes)) for job in jobs)
        room = board.get("memory") - board.get("ring")
        if size > room:
            raise ValueError(f"the matrices take {size} bytes, the memory has {room}; take fewer, "
                             "or --whole")
        # With header, trailer and padding, a sum takes less than ten bytes.
        if 10 * sum(shape[0] + ROWS * board.build.lanes for shape in shapes) > board.get("ring"):
            raise ValueError("the matrices have more rows than the ring has room for; take fewer")
        spans, at = [], 0
        for job in jobs:
            frames = job.frames(board.build.lanes)
            board.load(at, frames)
            spans.append((at, len(frames)))
            at += len(frames)
        board.counts()
        began = board.cycles
        for span in spans:
            board.push(*span)
        return _report(board, jobs, _answers(board), began)


@dataclass(frozen=True)
class _Job:
    matrix:   TritMatrix
    x:        np.ndarray
    sequence: int

    @classmethod
    def of(cls, shape: tuple[int, int], depth: int, place: int) -> "_Job":
        weights = GeneratedTensor(f"matrix{place}.weight", "F32", shape, _SEED)
        x, _ = quantize_activation(generated_activations(_SEED + place, shape[1])[0])
        return cls(quantize(weights.read(), depth), x, place % 255 + 1)

    def frames(self, lanes: int) -> bytes:
        """Frames of scales, activations and the GEMV, as a host would send them."""
        prepared = prepare(self.matrix, lanes, 1 << 15, fold_words=None)
        part, = prepared.parts
        x = np.pad(self.x, (0, -len(self.x) % 16)).tobytes()
        sizes = prepared.depth | part.groups << 8 | 1 << 24
        words = part.payload(0, part.blocks)
        return (request_bytes(Opcode.SCALES, self.sequence,
                              payload=mantissa_bytes(prepared.mantissas))
                + request_bytes(Opcode.ACTIVATIONS, self.sequence, 0, len(x), x)
                + request_bytes(Opcode.GEMV, self.sequence, sizes, part.blocks, words))


def _answers(board: SimulatedBoard) -> list[Answer]:
    """All responses to the list. They are read at its end, because a read disturbs the memory."""
    align, lanes, ring = (board.get(name) for name in ("align", "lanes", "ring"))
    board.wait("head", board.get("tail"), _FOREVER)
    written = -1
    while written != board.get("written"):
        written = board.get("written")
        board.run(5000)
    return answers(board.dump(board.get("memory") - ring, written * align), lanes, align)


def _report(board: SimulatedBoard, jobs: list[_Job], found: list[Answer], began: int) -> dict:
    # Importing the causes needs the extra, which a board that ran has.
    from tritstream.hw.soc.cycle_monitor import Cause
    counts, build = board.counts(), board.build
    span = counts.last - counts.first + 1
    stats = [Stats.parse(one.payload, build.lanes) for one in found
             if one.header.opcode == Opcode.DONE]
    active = sum(one.words + one.input_stalls + one.output_stalls for one in stats)
    words, peak = sum(one.words for one in stats), build.lanes * build.clock_hz
    violations, first = board.violations()
    return {
        "memory": board.choice.memory, "clock_mhz": build.clock_hz / 1e6, "lanes": build.lanes,
        "peak_mb_s": peak / 1e6, "engine": build.engine,
        "matrices": [list(job.matrix.shape) for job in jobs],
        "rows": sum(job.matrix.shape[0] for job in jobs),
        "mismatches": sum(_mismatches(job, found, build.lanes) for job in jobs),
        "words": words, "cycles": span, "gemv_share": words / active,
        "list_share": words / span, "mb_s": words / span * peak / 1e6,
        "refreshes": counts.refreshes,
        "refreshes_due": (board.cycles - began) / build.refresh_cycles,
        "causes": {cause.name.lower(): counts.causes[cause] / span for cause in Cause},
        "checked": board.choice.checks, "violations": violations, "first_violation": first,
    }


def _mismatches(job: _Job, found: list[Answer], lanes: int) -> int:
    expected = gemv(job.matrix, job.x)
    sums = np.full(padded(len(expected), ROWS * lanes), np.iinfo(np.int64).min)
    for one in found:
        if one.header.opcode == Opcode.RESULT and one.header.sequence == job.sequence:
            at = one.header.arg0 * ROWS * lanes
            sums[at:at + ROWS * lanes] = np.frombuffer(one.payload, "<i8")
    return int(np.count_nonzero(sums[:len(expected)] != expected))


def _shapes(texts: list[str]) -> Iterator[tuple[int, int]]:
    for text in texts:
        if text in QWEN25:
            yield from QWEN25[text].linear().values()
        elif found := re.fullmatch(r"(\d+)x(\d+)", text):
            yield int(found[1]), int(found[2])
        else:
            raise ValueError(f"--shape must be NxK or one of {', '.join(QWEN25)}, not {text!r}")


def _show(report: dict) -> None:
    causes = report["causes"]
    columns = ["memory", "MHz", "L", "peak MB/s", "rows", "differ", "words", "cycles",
               "share in GEMV", "share of list", "MB/s"]
    table("", columns, [[
        report["memory"], f"{report['clock_mhz']:.1f}", str(report["lanes"]),
        f"{report['peak_mb_s']:.0f}", str(report["rows"]), str(report["mismatches"]),
        str(report["words"]), str(report["cycles"]), f"{report['gemv_share']:.4f}",
        f"{report['list_share']:.4f}", f"{report['mb_s']:.1f}"]])
    print("of the cycles, %: " + ", ".join(
        f"{name} {100 * share:.2f}" for name, share in causes.items()))
    print(f"refreshes {report['refreshes']}, expected {report['refreshes_due']:.0f}; timing "
          + (f"checked, {report['violations']} violations" if report["checked"]
             else "not checked"))
