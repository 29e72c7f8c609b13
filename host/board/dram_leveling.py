"""Read leveling of a DDR3 memory by the host, for a board without a processor.

Leveling finds the time at which to sample the data that the memory sends. The PHY of an ECP5 has 8
delays and 4 bit slips per byte of the memory, whose initial values are arbitrary. LiteX has a
program for this on a processor; here the host does the same over the bus.
"""

import random
from itertools import product

from tritstream.host.board.link import Link
from tritstream.host.errors import TransportClosed
from tritstream.hw.soc.registers import CSR, CSR_BASE, CSR_STEP

__all__ = ["level", "works"]

_DELAYS, _SLIPS = 8, 4
#: Registers of LiteDRAM's ECP5 PHY, in the order of their addresses.
_PHY = ("select", "delay_reset", "delay", "slip_reset", "slip")
_DATA = random.Random(0).randbytes(256)
_TRIES = 3


async def works(link: Link, address: int) -> bool:
    """Return whether memory at a bus address works; overwrites 256 bytes."""
    await link.write(address, _DATA)
    return await link.read(address, len(_DATA)) == _DATA


async def level(link: Link, modules: int, address: int) -> list[tuple[int, int]]:
    """Set bit slip and delay of each byte of memory to the middle of the working ones.

    Overwrites 256 bytes at a bus address. The PHY counts steps, so a duplicated datagram is a step
    too many. Therefore the result is checked, and leveling is repeated if memory does not work.

    Returns (slip, delay) by byte. Raises :class:`TransportClosed` when no setting works.
    """
    for _ in range(_TRIES):
        await link.write(address, _DATA)
        chosen = [await _level(link, module, modules, address) for module in range(modules)]
        working = [setting for setting in chosen if setting]
        if len(working) == modules and await works(link, address):
            return working
    raise TransportClosed("the board's memory works at no delay of its PHY: check the board")


async def _level(
    link: Link, module: int, modules: int, address: int,
) -> tuple[int, int] | None:
    """Set slip and delay of one byte of memory and return them; None if no pair works."""
    working = []
    for slip, delay in product(range(_SLIPS), range(_DELAYS)):
        await _set(link, module, slip, delay)
        data = await link.read(address, len(_DATA))
        if data[module::modules] == _DATA[module::modules]:
            working.append((slip, delay))
    if not working:
        return None
    chosen = _middle(working)
    await _set(link, module, *chosen)
    return chosen


def _middle(working: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the middle of the longest run of consecutive delays at one slip."""
    runs: list[list[tuple[int, int]]] = []
    for slip, delay in working:
        if runs and runs[-1][-1] == (slip, delay - 1):
            runs[-1].append((slip, delay))
        else:
            runs.append([(slip, delay)])
    longest = max(runs, key=len)
    return longest[len(longest) // 2]


async def _set(link: Link, module: int, slip: int, delay: int) -> None:
    await _write(link, "select", 1 << module)
    await _write(link, "slip_reset", 1)
    for _ in range(slip):
        await _write(link, "slip", 1)
    await _write(link, "delay_reset", 1)
    for _ in range(delay):
        await _write(link, "delay", 1)
    await _write(link, "select", 0)


async def _write(link: Link, name: str, value: int) -> None:
    base = CSR_BASE + CSR_STEP * CSR.index("ddrphy")
    await link.write(base + 4 * _PHY.index(name), value.to_bytes(4, "little"))
