"""Commands for a board with memory: load a model into it, simulate such a board."""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Annotated

import numpy as np
import typer

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed_matrix import StoredMatrix
from tritstream.host.board.matrix_store import Store, stored_name
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup, together
from tritstream.host.errors import DeviceError
from tritstream.host.layout.prepare import PreparedMatrix, prepare
from tritstream.host.layout.stored import take_tiles, tile_count
from tritstream.host.open_device import open_device
from tritstream.host.placement.fitting import advice
from tritstream.host.placement.plan import PlacementError, Plan
from tritstream.host.placement.work import Span, steps_of_checkpoint
from tritstream.host.servers.udp_board import BoardServer
from tritstream.scripts.console import (
    Failure,
    console,
    print_json,
    progress,
    reports_errors,
    table,
)
from tritstream.scripts.options import Json, Memory, Packed
from tritstream.scripts.running.listening import is_loopback, listen_address
from tritstream.sim.board import SimulatedBoard
from tritstream.sim.soc_build import SocChoice

__all__ = ["board", "load"]

#: Attempts to write a matrix before the board's memory counts as faulty.
_TRIES = 3
_ADDRESS = "127.0.0.1:1234"


@reports_errors
def load(
    packed: Packed,
    device: Annotated[str, typer.Option(
        help="Device with memory to load: udp://HOST, or axi-sim:channels=4,file=PATH. Separate "
             "several by commas.")],
    matrices: Annotated[str, typer.Option(
        metavar="GLOB", help="Load only the modules whose names match this pattern.")] = "*",
    as_json: Json = False,
):
    """Load a packed model into the memory of boards, which then check every CRC.

    Matrices that a board already stores with a valid CRC are kept. Other models are erased.
    Channels of a memory-mapped core, or several boards, hold a part of each matrix. A model that
    does not fit is refused before anything is written.
    """
    checkpoint = PackedCheckpoint(packed)
    names = [name for name in checkpoint.matrices if fnmatchcase(name, matrices)]
    if not names:
        raise ValueError(f"{packed}: no matrix fits {matrices!r}; `tritstream inspect` lists them")
    report = asyncio.run(_load(device, checkpoint, names))
    if as_json:
        print_json(report)
        return
    print(f"{report['matrices']} matrices on {device}: {report['written']} written, "
          f"{report['kept']} were there, {report['bytes'] / 1e6:.1f} MB in {report['seconds']:.1f} "
          f"s, {report['free'] / 1e6:.1f} MB left; all checked in place")
    if len(report["boards"]) > 1:
        table("", ["board", "parts", "MB left"], [
            [board["device"], str(board["parts"]), f"{board['free'] / 1e6:.1f}"]
            for board in report["boards"]])


@dataclass(frozen=True)
class _Part:
    """A matrix, or the part of it that a board holds."""

    name: str
    span: Span | None
    size: int

    @property
    def key(self) -> str:
        return stored_name(self.name, self.span)

    def matrix(self, checkpoint: PackedCheckpoint) -> StoredMatrix:
        """Return the rows of the part, with all columns."""
        stored = checkpoint.stored(self.name)
        tiles = self.span.tiles if self.span else range(tile_count(stored))
        return take_tiles(stored, slice(tiles.start, tiles.stop))


@dataclass(frozen=True)
class _Filled:
    """What a board holds: number of parts, matrices of which a part was written, and its bytes."""

    parts:   int
    written: set[str]
    bytes:   int


async def _load(spec: str, checkpoint: PackedCheckpoint, names: list[str]) -> dict:
    began = time.perf_counter()
    async with open_device(spec) as opened:
        group = opened if isinstance(opened, DeviceGroup) else DeviceGroup([opened])
        await group.info()
        stores = [device.store for device in group.devices if device.store is not None]
        if len(stores) < len(group.devices):
            raise ValueError(f"{spec}: has no memory of its own; load needs a board, udp://HOST, "
                             "or a memory-mapped core")
        plan = await _plan(group, checkpoint, names)
        with progress("loading", sum(plan.nbytes), in_bytes=True) as advance:
            boards = await together(
                _fill(device, store, checkpoint, _parts(plan, place), advance)
                for place, (device, store) in enumerate(zip(group.devices, stores, strict=True)))
    written = {name for board in boards for name in board.written}
    return {"device": spec, "matrices": len(names), "written": len(written),
            "kept": len(names) - len(written), "bytes": sum(board.bytes for board in boards),
            "free": sum(store.free for store in stores), "boards": [
                {"device": device.name, "parts": board.parts, "bytes": board.bytes,
                 "free": store.free}
                for device, store, board in zip(group.devices, stores, boards, strict=True)],
            "seconds": time.perf_counter() - began}


async def _plan(group: DeviceGroup, checkpoint: PackedCheckpoint, names: list[str]) -> Plan:
    """Place the matrices, or raise what would fit, before anything is written."""
    steps = steps_of_checkpoint(checkpoint, names)
    try:
        return await group.place(steps, must_fit=True)
    except PlacementError as error:
        units = await group.units()
        would = advice(steps, lambda times: [replace(unit, card=len(units) * time + unit.card)
                                             for time in range(times) for unit in units],
                       1, group.layers, "such boards", "what is there")
        raise PlacementError(f"{error} of memory; {would}") from None


def _parts(plan: Plan, place: int) -> list[_Part]:
    """Return the parts of a unit of a plan."""
    return [_Part(name, None if share.span == share.work.span else share.span,
                  plan.units[place].nbytes(share.work, share.span))
            for name, shares in plan.shares.items() for share in shares if share.unit == place]


async def _fill(
    device: Device, store: Store, checkpoint: PackedCheckpoint, parts: list[_Part],
    advance: Callable[..., None],
) -> _Filled:
    """Store the parts of a board that it does not store yet."""
    kept, written = await _keep(device, store, checkpoint, parts), {}
    for part in parts:
        if part.key not in kept:
            written[part.key] = await _write(device, store, checkpoint, part)
        advance(part.size, part.name)
    await store.publish()
    return _Filled(len(parts), {part.name for part in parts if part.key in written},
                   sum(written.values()))


async def _keep(
    device: Device, store: Store, checkpoint: PackedCheckpoint, parts: list[_Part],
) -> set[str]:
    """Return the stored parts with a valid CRC; erase the memory if it holds anything else."""
    kept = set()
    for part in parts:
        if part.key in store.names:
            stored = await device.prepare(checkpoint.stored(part.name), part.name, part.span)
            if await _is_valid(device, stored):
                kept.add(part.key)
    if kept != set(store.names):
        kept = set()
    if not kept:
        await store.erase()
    return kept


async def _write(
    device: Device, store: Store, checkpoint: PackedCheckpoint, part: _Part,
) -> int:
    """Store a part until the board finds its CRC valid; return the bytes of its words."""
    info, matrix = await device.info(), part.matrix(checkpoint)
    prepared = prepare(matrix, info.lanes, info.max_k, part.name, fold_words=None,
                       chunks=part.span.chunks if part.span else None)
    for _ in range(_TRIES):
        await store.add(prepared, matrix, part.span)
        stored = await store.find(matrix, part.name, info, part.span)
        if stored and await _is_valid(device, stored):
            return sum(each.nbytes for each in prepared.parts)
        store.drop(part.key)
    raise Failure(f"{part.key}: the board's memory does not keep it, written {_TRIES} times; check "
                  "the board")


async def _is_valid(device: Device, matrix: PreparedMatrix) -> bool:
    """Whether the core finds the CRC of all words valid when it multiplies them by zeros."""
    try:
        sums, _ = await device.gemv(matrix, np.zeros(matrix.shape[1], np.int8))
    except DeviceError as error:
        console.print(f"{error}; written again", markup=False)
        return False
    return not sums.any()


@reports_errors
def board(
    memory: Memory = "mt41k256m16",
    rows: Annotated[int, typer.Option(
        help="Rows per bank of the memory: 2048 rows are 8 MB of SDRAM or 32 MB of DDR3.")] = 2048,
    listen: Annotated[str, typer.Option(
        metavar="HOST:PORT", help="UDP address to listen on; port 0 takes a free port.")] =
        _ADDRESS,
):
    """Simulate a board with memory, cycle by cycle, and serve it on a UDP port.

    The protocol of boards has no key, so the address must be one of this machine alone.
    """
    host, port = listen_address(listen, _ADDRESS)
    if not is_loopback(host):
        raise ValueError(f"{listen}: other machines would reach this board, whose protocol has no "
                         "key; listen on 127.0.0.1")
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as listener:
        listener.bind((host, port))
        listener.setblocking(False)
        console.print("building the simulated board (a minute the first time)")
        with SimulatedBoard(SocChoice(memory, rows, checks=False)) as simulated:
            print(f"a board with {memory} on udp://{host}:{listener.getsockname()[1]}"
                  ",bind=0,repeat=0.5", flush=True)
            BoardServer(simulated, listener).serve(lambda: False)
