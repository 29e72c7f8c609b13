"""Finding when to sample what a DDR3 memory sends, for a board that has no processor to do it.

The PHY of an ECP5 has 8 delays and 4 bit slips for each byte of its memory, which start anywhere.
LiteX has a program for that; here the host does the same over the link.
"""

import random
from itertools import product

from tritstream.host.board.bus import BoardLink
from tritstream.host.errors import TransportClosed
from tritstream.hw.soc.registers import CSR, CSR_BASE, CSR_STEP

__all__ = ["level", "works"]

_DELAYS, _SLIPS = 8, 4
#: Registers of LiteDRAM's ECP5 PHY, by place.
_PHY = ("select", "delay_reset", "delay", "slip_reset", "slip")
_DATA = random.Random(0).randbytes(256)
_TRIES = 3


async def works(link: BoardLink, address: int) -> bool:
    """Whether memory at a bus address returns what is written; 256 bytes are overwritten."""
    await link.write(address, _DATA)
    return await link.read(address, len(_DATA)) == _DATA


async def level(link: BoardLink, modules: int, address: int) -> list[tuple[int, int]]:
    """Set bit slip and delay of each byte of memory to the middle of those that work.

    256 bytes at a bus address are overwritten. The PHY counts steps, and a datagram that comes
    twice is one too many; so the outcome is tried, and everything done again if it is not good.

    Returns (slip, delay) by byte. Raises :class:`TransportClosed` when nothing works.
    """
    for _ in range(_TRIES):
        await link.write(address, _DATA)
        found = [await _level(link, module, modules, address) for module in range(modules)]
        if None not in found and await works(link, address):
            return found
    raise TransportClosed("the board's memory works at no delay of its PHY: check the board")


async def _level(
    link: BoardLink, module: int, modules: int, address: int,
) -> tuple[int, int] | None:
    """Slip and delay of one byte of memory, which are set; None where none is good."""
    good = []
    for slip, delay in product(range(_SLIPS), range(_DELAYS)):
        await _set(link, module, slip, delay)
        found = await link.read(address, len(_DATA))
        if found[module::modules] == _DATA[module::modules]:
            good.append((slip, delay))
    if not good:
        return None
    chosen = _middle(good)
    await _set(link, module, *chosen)
    return chosen


def _middle(good: list[tuple[int, int]]) -> tuple[int, int]:
    """The middle of the longest run of delays at one slip."""
    runs: list[list[tuple[int, int]]] = []
    for slip, delay in good:
        if runs and runs[-1][-1] == (slip, delay - 1):
            runs[-1].append((slip, delay))
        else:
            runs.append([(slip, delay)])
    longest = max(runs, key=len)
    return longest[len(longest) // 2]


async def _set(link: BoardLink, module: int, slip: int, delay: int) -> None:
    await _write(link, "select", 1 << module)
    await _write(link, "slip_reset", 1)
    for _ in range(slip):
        await _write(link, "slip", 1)
    await _write(link, "delay_reset", 1)
    for _ in range(delay):
        await _write(link, "delay", 1)
    await _write(link, "select", 0)


async def _write(link: BoardLink, name: str, value: int) -> None:
    base = CSR_BASE + CSR_STEP * CSR.index("ddrphy")
    await link.write(base + 4 * _PHY.index(name), value.to_bytes(4, "little"))
