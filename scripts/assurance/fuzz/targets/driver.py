"""Responses of a device: the driver returns a correct product or a documented error."""

import asyncio
from pathlib import Path
from random import Random

import numpy as np

from tritstream.host.device import Device
from tritstream.hw.config import LANE_COUNTS
from tritstream.scripts.assurance.fuzz.mutation import changed_number
from tritstream.scripts.assurance.fuzz.tape import (
    MATRIX,
    SUMS,
    Tape,
    X,
    answers_to_all,
    changed_answers,
    results_in,
)
from tritstream.scripts.assurance.fuzz.target import Broken, Target

__all__ = ["TARGET"]

#: Flag in the first byte of an input, next to the number of lanes: the link may lose bytes.
_LINE = 0x80


def _seeds() -> list[bytes]:
    return [bytes([flag | LANE_COUNTS.index(lanes)]) + answers_to_all(lanes, times=times)
            for lanes, flag, times in ((1, 0, 1), (2, 0, 2), (8, 0, 3), (4, _LINE, 1),
                                       (8, _LINE, 3))]


def _lanes(first: int) -> int:
    return LANE_COUNTS[(first & 0x7F) % len(LANE_COUNTS)]


def _changed(data: bytes, rng: Random) -> bytes:
    if len(data) < 2 or rng.random() < 0.02:
        return bytes([changed_number(data[0] if data else 0, rng) & 255]) + data[1:]
    return data[:1] + changed_answers(data[1:], _lanes(data[0]), rng)


def _run(data: bytes, _: Path) -> None:
    first, answers = (data[0], data[1:]) if data else (0, b"")
    sums = asyncio.run(_product(Tape(answers, not first & _LINE)))
    if np.array_equal(sums, SUMS):
        return
    # A wrong product is accepted only if the device sent other sums with valid CRCs.
    good = results_in(answers_to_all(_lanes(first)), _lanes(first))
    for lanes in LANE_COUNTS:
        if not results_in(answers, lanes) <= good:
            return
    raise Broken("sums that are in no response")


async def _product(tape: Tape) -> np.ndarray:
    async with Device(tape, retries=2) as device:
        await device.identify()
        await device.status()
        sums, stats = await device.gemv(await device.prepare(MATRIX), X)
        if stats.frames < 1 or sums.shape != SUMS.shape:
            raise Broken(f"{stats.frames} frames, sums {sums.shape}")
        return sums


TARGET = Target("responses of a device: identify, status, product", _seeds, _run, _changed)
