"""Runs one soak job on its devices and compares every row with golden."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from tritstream.golden.fixed_point import ROWS, row_blocks, tile_bytes
from tritstream.golden.gemv import gemv
from tritstream.golden.tiles import unpack
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.host.device_spec import parse_specs
from tritstream.host.layout.prepare import Tiles
from tritstream.host.open_device import open_device
from tritstream.host.protocol.exchange import SEQUENCES
from tritstream.host.protocol.frames import padded
from tritstream.host.protocol.records import Stats
from tritstream.host.transports.threaded import ThreadTransport
from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import REQUEST_ALIGN, SUM_BYTES
from tritstream.scripts.assurance.rtl_fuzz.session import Tally, run_session
from tritstream.scripts.assurance.soak.disturbed import DisturbedTransport
from tritstream.scripts.assurance.soak.draw import (
    Job,
    draw_activations,
    draw_disturbances,
    draw_job,
    draw_matrix,
)
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice

__all__ = ["Outcome", "config_of", "run_job"]

#: Greatest number of retries: one disturbance costs a few at most.
_RETRIES = 24


@dataclass
class Outcome:
    """Outcome of a job.

    Members
    -------
    rows : int
        Row sums compared with golden.
    answers : int
        Responses to raw frames compared with the reference model.
    cycles, words : int
        Sums over all devices of the job.
    retries : int
        Attempts that failed because of a disturbance.
    faults : dict
        Number of disturbances, by kind.
    fault : str or None
        Description of the failure.
    """

    rows:    int = 0
    answers: int = 0
    cycles:  int = 0
    words:   int = 0
    retries: int = 0
    faults:  dict[str, int] = field(default_factory=dict)
    fault:   str | None = None


def config_of(spec: str) -> DeviceConfig:
    """Return the configuration in a spec; raises :class:`ValueError` for other devices."""
    found = parse_specs(spec)
    if len(found) != 1 or found[0].scheme != "sim" or found[0].address is not None:
        raise ValueError(f"{spec}: a soak takes simulated devices, each by itself, such as "
                         "sim:lanes=8,columns=2")
    return DeviceConfig(**found[0].values(lanes=int, columns=int, max_k=int))


@cache
def _library(config: DeviceConfig) -> Path:
    return build_native(config.lanes, device_rtl(config)).library


def run_job(
    seed: int, number: int, specs: Sequence[str], device_type: type[NativeDevice] = NativeDevice,
) -> tuple[Job, Outcome]:
    """Run job ``number`` of a seed; it does not depend on the jobs before it."""
    configs = [config_of(spec) for spec in specs]
    job = draw_job(seed, number, configs)
    outcome = Outcome()
    try:
        if job.kind == "frames":
            _run_frames(job, seed, configs[job.devices[0]], outcome, device_type)
        else:
            rng = np.random.default_rng([seed, number, 1])
            asyncio.run(_run_product(job, specs, configs, rng, outcome, device_type))
    except Exception as error:      # any exception of the driver on a bad link is a finding
        outcome.fault = f"{type(error).__name__}: {error}"
    return job, outcome


def _run_frames(job, seed, config, outcome, device_type):
    tally = Tally()
    _, outcome.fault = run_session(
        _library(config), config, seed, job.number, tally, device_type)
    outcome.cycles, outcome.words = tally.cycles, tally.words_in
    outcome.answers = sum(tally.answers.values())
    outcome.faults = {f"frames: {kind}": count for kind, count in tally.elements.items()
                      if not kind.startswith("good")}


async def _run_product(job, specs, configs, rng, outcome, device_type) -> None:
    matrix, x = draw_matrix(job, rng), draw_activations(job, rng)
    ends = []
    if job.kind == "opened":
        device = open_device([specs[place] for place in job.devices])
    else:
        ends = [_end(job, configs[place], rng, device_type) for place in job.devices]
        device = _device(job, ends)
    async with device:
        try:
            sums, stats = await _multiply(device, matrix, x)
        finally:
            outcome.cycles = sum(native.cycles for native, _ in ends)
            outcome.faults = dict(sum((transport.done for _, transport in ends), Counter()))
    outcome.cycles = outcome.cycles or stats.cycles
    outcome.words, outcome.retries = stats.words, stats.retries
    outcome.rows = sums.size
    tiles, table, depth, shape = matrix
    outcome.fault = _difference(sums, gemv(unpack(tiles, depth, shape, table), x))


async def _multiply(device: Device | DeviceGroup, matrix: Tiles, x: np.ndarray
                    ) -> tuple[np.ndarray, Stats]:
    if isinstance(device, DeviceGroup):
        return await device.gemv(await device.prepare(matrix), x)
    return await device.gemv(await device.prepare(matrix), x)


def _end(job, config, rng, device_type) -> tuple[NativeDevice, DisturbedTransport]:
    """Return a simulated device and a disturbed link to it."""
    rng = rng.spawn(1)[0]       # one per device, because the devices of a group run concurrently
    native = device_type(_library(config))
    native.stall(int(rng.integers(1 << 32)), *job.stalls)
    disturbances = draw_disturbances(job, *_traffic(job, config), rng)
    return native, DisturbedTransport(native, disturbances, rng, job.fold_words)


def _device(job, ends) -> Device | DeviceGroup:
    """Return the driver on one link, or on several links with a thread each."""
    count = len(ends)
    if count == 1:
        return Device(ends[0][1], _RETRIES, job.frame_bytes)
    return DeviceGroup([
        Device(ThreadTransport(transport), _RETRIES, job.frame_bytes, f"device {place}",
               SEQUENCES[place::count])
        for place, (_, transport) in enumerate(ends)])


def _traffic(job: Job, config: DeviceConfig) -> tuple[int, int]:
    """Return the approximate bytes of requests and responses of an undisturbed job."""
    rows, columns = job.shape
    blocks, passes = row_blocks(rows, config.lanes), -(-job.vectors // config.columns)
    words = blocks * -(-columns // 16) * tile_bytes(job.depth) * config.lanes * passes
    loads = job.vectors * padded(columns, REQUEST_ALIGN) + 5 * REQUEST_ALIGN
    results = blocks * job.vectors * ROWS * config.lanes * SUM_BYTES
    share = len(job.devices)
    return words // share + loads, results // share + 200


def _difference(sums: np.ndarray, expected: np.ndarray) -> str | None:
    wrong = np.argwhere(sums != expected)
    if not len(wrong):
        return None
    vector, row = (int(place) for place in wrong[0])
    return (f"row {row} of vector {vector} is {sums[vector, row]} on the device and "
            f"{expected[vector, row]} in golden ({len(wrong)} of {sums.size} differ)")
