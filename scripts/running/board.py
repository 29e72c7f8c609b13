"""Commands for a board with memory: load a model into it, simulate such a board."""

import asyncio
import socket
import time
from contextlib import closing
from fnmatch import fnmatchcase
from typing import Annotated

import numpy as np
import typer

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.board.matrix_store import Store
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup, together
from tritstream.host.errors import DeviceError
from tritstream.host.layout.prepare import PreparedMatrix, prepare
from tritstream.host.layout.stored import AnyMatrix
from tritstream.host.open_device import open_device
from tritstream.host.servers.udp_board import BoardServer
from tritstream.scripts.console import Failure, console, print_json, progress, reports_errors
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
        help="Device with memory to load: udp://HOST, or axi-sim:channels=4,file=PATH.")],
    matrices: Annotated[str, typer.Option(
        metavar="GLOB", help="Load only the modules whose names match this pattern.")] = "*",
    as_json: Json = False,
):
    """Load a packed model into the memory of a board, which then checks every CRC.

    Matrices that the board already stores with a valid CRC are kept. Other models are erased.
    Channels of a memory-mapped core, or several boards, share the rows of each matrix.
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


async def _load(spec: str, checkpoint: PackedCheckpoint, names: list[str]) -> dict:
    began = time.perf_counter()
    async with open_device(spec) as device:
        stores = await _stores(spec, device)
        kept = await _keep(device, stores, checkpoint, names)
        sizes = {name: checkpoint.tensors_of(name)[0].size for name in names}
        written: dict[str, int] = {}
        with progress("loading", sum(sizes.values()), in_bytes=True) as advance:
            for name in names:
                matrix = checkpoint.stored(name)
                sent = await together(
                    _write(one, stores[one], part, name)
                    for one, part in await device.parts(matrix) if (one, name) not in kept)
                if sent:
                    written[name] = sum(sent)
                advance(sizes[name], name)
        await together(store.publish() for store in stores.values())
        return {"device": spec, "matrices": len(names), "written": len(written),
                "kept": len(names) - len(written), "bytes": sum(written.values()),
                "free": sum(store.free for store in stores.values()),
                "seconds": time.perf_counter() - began}


async def _stores(spec: str, device: Device | DeviceGroup) -> dict[Device, Store]:
    """Return the store of each device; raise :class:`ValueError` if one has no memory."""
    await device.info()
    stores = {one: one.store for one in device.devices if one.store is not None}
    if len(stores) < len(device.devices):
        raise ValueError(f"{spec}: has no memory of its own; load needs a board, udp://HOST, or a "
                         "memory-mapped core")
    return stores


async def _keep(
    device: Device | DeviceGroup, stores: dict[Device, Store], checkpoint: PackedCheckpoint,
    names: list[str],
) -> set[tuple[Device, str]]:
    """Return the stored matrices with a valid CRC; erase a memory that holds anything else."""
    kept = set()
    stored = {name for store in stores.values() for name in store.names}
    for name in filter(stored.__contains__, names):
        for one, part in await device.parts(checkpoint.stored(name)):
            if name in stores[one].names and await _is_valid(one, await one.prepare(part, name)):
                kept.add((one, name))
    for one, store in stores.items():
        if not store.names or any((one, name) not in kept for name in store.names):
            await store.erase()
            kept -= {(one, name) for name in names}
    return kept


async def _write(device: Device, store: Store, matrix: AnyMatrix, name: str) -> int:
    """Store a matrix until the board finds its CRC valid; return the bytes of its words."""
    info = await device.info()
    prepared = prepare(matrix, info.lanes, info.max_k, name, fold_words=None)
    for _ in range(_TRIES):
        await store.add(prepared, matrix)
        stored = await store.find(matrix, name, info)
        if stored and await _is_valid(device, stored):
            return sum(part.nbytes for part in prepared.parts)
        store.drop(name)
    raise Failure(f"{name}: the board's memory does not keep it, written {_TRIES} times; check "
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
