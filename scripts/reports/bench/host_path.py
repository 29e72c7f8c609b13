"""Command that measures the host path: CPU time and round trips of a token, without a device."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import typer

from tritstream.golden.fixed_point import SCALES, table_unit, tiles_shape
from tritstream.golden.inputs import Inputs
from tritstream.golden.model_sizes import QWEN25
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.device import Device
from tritstream.host.layout.prepare import PreparedMatrix
from tritstream.host.layout.stored import AnyMatrix
from tritstream.host.own_loop import OwnLoop
from tritstream.host.protocol.records import Info, Stats
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.console import Failure, progress, reports_errors, table
from tritstream.scripts.options import Depth, Json, JsonFile, LaneCounts, Repeat
from tritstream.scripts.reports.bench.canned import CannedTransport, MemoryStore, Recorder
from tritstream.scripts.reports.bench.measuring import circumstances, report_to
from tritstream.scripts.reports.bench.products import check_size

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from torch import Tensor

    from tritstream.host.model.backends import Product

__all__ = ["host_path"]

_PACKAGES = ("tritstream", "numpy", "torch")
_LANES = [8, 64]
#: Modules of a layer by the vector that they read.
_INPUTS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))


@reports_errors
def host_path(
    size: Annotated[str, typer.Argument(
        help=f"Size of Qwen2.5: {', '.join(QWEN25)}.")] = "0.5B",
    layers: Annotated[int | None, typer.Option(
        min=1, help="Number of decoder layers.", show_default="all")] = None,
    lanes: LaneCounts = _LANES,
    depth: Depth = 3,
    repeat: Repeat = 5,
    output: JsonFile = None,
    as_json: Json = False,
):
    """Measure the host's CPU time per decoded token, and the round trips, without a device.

    The reference model of a device responds to the requests of one token, and its responses are
    recorded. Then a transport gives the recorded responses at once. The driver parses and checks
    them, and every result must be the same. Weights are random. The CPU time is that of the
    products: quantizing of activations, requests, responses, conversion to float32. Attention,
    norms and head are not part of it.
    """
    check_size(size)
    rows = []
    with progress("measuring", 2 * len(lanes)) as advance:
        for count in lanes:
            for stored in (False, True):
                rows.append(_measure(size, layers, count, depth, repeat, stored))
                advance(1, f"L = {count}")
    report = circumstances(_PACKAGES) | {"model": size, "depth": depth, "paths": rows}
    report_to(report, output, as_json, _show)


@dataclass
class _Replaceable:
    """Device behind a transport that is replaced for every token."""

    device: Device

    async def identify(self) -> Info:
        return await self.device.identify()

    async def prepare(self, matrix: AnyMatrix, name: str) -> PreparedMatrix:
        return await self.device.prepare(matrix, name)

    async def gemv_all(
        self, matrices: Sequence[PreparedMatrix], x: np.ndarray,
    ) -> list[tuple[np.ndarray, Stats]]:
        return await self.device.gemv_all(matrices, x)


def _measure(
    size: str, layers: int | None, lanes: int, depth: int, repeat: int, stored: bool,
) -> dict:
    import torch

    from tritstream.host.model.backends import DeviceBackend

    count, config = layers or QWEN25[size].layers, DeviceConfig(lanes=lanes)
    store = MemoryStore(stored)
    end = _Replaceable(Device(Recorder(config, store)))
    with OwnLoop() as loop:
        steps = _steps(DeviceBackend(end, loop.run), size, count, depth)
        _token(steps)                           # The first token shows which matrices are siblings.
        recorder = Recorder(config, store)
        end.device = Device(recorder)
        wanted, cpu, wall = _token(steps), [], []
        for _ in range(repeat):
            canned = CannedTransport(recorder.recording, store)
            end.device = Device(canned)
            began = time.process_time(), time.perf_counter()
            found = _token(steps)
            cpu.append(time.process_time() - began[0])
            wall.append(time.perf_counter() - began[1])
            if not all(map(torch.equal, found, wanted)):
                raise Failure(f"L = {lanes}: a result differs from that of the reference model")
    # IDENTIFY is a round trip of the first token only.
    return {"lanes": lanes, "stored": stored, "layers": count, "requests": recorder.requests,
            "round_trips_per_layer": (canned.round_trips - 1) / count,
            "cpu_seconds": min(cpu), "median_cpu_seconds": statistics.median(cpu),
            "wall_seconds": min(wall)}


def _steps(
    backend: Any, size: str, layers: int, depth: int,
) -> list[tuple["Tensor", Sequence["Product"]]]:
    """Return the inputs of a token, each with the products that read it, in order."""
    import torch

    shapes = {name.rpartition(".")[2]: shape for name, shape in QWEN25[size].linear().items()}
    rng, torch_rng = np.random.default_rng(0), torch.Generator().manual_seed(0)
    steps: list[tuple[Tensor, Sequence[Product]]] = []
    for layer in range(layers):
        for names in _INPUTS:
            products = []
            for name in names:
                checkpoint = _checkpoint(f"{layer}.{name}", shapes[name], depth, rng)
                products.append(backend.prepare(checkpoint, f"{layer}.{name}"))
            steps.append((torch.randn(1, shapes[names[0]][1], generator=torch_rng), products))
    return steps


def _checkpoint(
    name: str, shape: tuple[int, int], depth: int, rng: np.random.Generator,
) -> PackedCheckpoint:
    """Return a checkpoint with one random matrix, as far as a backend reads it."""
    tiles = rng.integers(0, 256, tiles_shape(shape, depth), np.uint8)
    scales = rng.random(SCALES, np.float32)
    info = SimpleNamespace(depth=depth, shape=shape)
    return cast(PackedCheckpoint, SimpleNamespace(
        matrices={name: info}, stored=lambda _: (tiles, scales, depth, shape),
        units=lambda _: np.asarray(table_unit(scales)), inputs=Inputs()))


def _token(steps: list[tuple["Tensor", Sequence["Product"]]]) -> list["Tensor"]:
    return list(_results(steps))


def _results(steps: list[tuple["Tensor", Sequence["Product"]]]) -> Iterator["Tensor"]:
    for x, products in steps:
        for product in products:
            yield product(x)


def _show(report: dict) -> None:
    table(f"Qwen2.5-{report['model']}, d = {report['depth']}, one token",
          ["L", "weights", "requests", "round trips per layer", "CPU s", "median", "wall s"],
          [[str(row["lanes"]), "on the board" if row["stored"] else "sent", str(row["requests"]),
            f"{row['round_trips_per_layer']:.1f}", f"{row['cpu_seconds']:.3f}",
            f"{row['median_cpu_seconds']:.3f}", f"{row['wall_seconds']:.3f}"]
           for row in report["paths"]])
