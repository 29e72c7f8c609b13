"""Command that measures the speed of a board's Ethernet link to its memory, in board cycles."""

from collections.abc import Callable

import numpy as np

from tritstream.host.board.etherbone import MOST_WORDS, answer, request
from tritstream.hw.soc.registers import MEMORY, register
from tritstream.scripts.console import Failure, console, print_json, reports_errors, write_json
from tritstream.scripts.options import Json, Memory, Report
from tritstream.sim.board import SimulatedBoard
from tritstream.sim.cable import Cable
from tritstream.sim.soc_build import SocChoice

__all__ = ["link"]

#: Packets of each kind, and packets without a response at a time, as in
#: tritstream.host.board.udp_link.
_PACKETS, _WINDOW = 40, 2
_STEP, _MOST = 100, 2_000_000


@reports_errors
def link(
    memory: Memory = "mt41k256m16",
    report: Report = None,
    as_json: Json = False,
):
    """Measure the cycles per word of Etherbone writes and reads of a simulated board's memory."""
    console.print("building the simulated board (a minute the first time)")
    data = np.random.default_rng(0).bytes(4 * MOST_WORDS * _PACKETS)
    size = 4 * MOST_WORDS
    with SimulatedBoard(SocChoice(memory, 2048, checks=False)) as board:
        cable = Cable(board)
        writes, _ = _cycles(board, cable, lambda at: request(
            at, MEMORY + at * size, data[at * size:(at + 1) * size], [register("magic")]))
        reads, found = _cycles(board, cable, lambda at: request(
            at, 0, b"", [MEMORY + at * size + 4 * word for word in range(MOST_WORDS)]))
        clock = board.build.clock_hz
    if found != data:
        raise Failure("the data read from the memory differ from the data written")
    words = MOST_WORDS * _PACKETS
    measured = {"memory": memory, "clock_mhz": clock / 1e6, "words": words,
                "write_cycles": writes / words, "read_cycles": reads / words,
                "write_mb_s": 4 * words / writes * clock / 1e6,
                "read_mb_s": 4 * words / reads * clock / 1e6}
    if report:
        write_json(report, measured)
    if as_json:
        print_json(measured)
        return
    for way in ("write", "read"):
        print(f"{way:<6} {measured[f'{way}_cycles']:.2f} cycles of {clock / 1e6:g} MHz for a word "
              f"of 32 bits: {measured[f'{way}_mb_s']:.1f} MB/s")


def _cycles(
    board: SimulatedBoard, cable: Cable, packet: Callable[[int], bytes],
) -> tuple[int, bytes]:
    """Return the cycles until all packets have a response, and the words of the responses.

    The board asks for the address of this end before its first response, so one packet is sent
    before the measurement.
    """
    cable.send(request(0, 0, b"", [register("magic")]))
    cable.run(20_000)
    began, sent = board.cycles, 0
    found: list[tuple[int, bytes]] = []
    while len(found) < _PACKETS:
        while sent < min(_PACKETS, len(found) + _WINDOW):
            cable.send(packet(sent))
            sent += 1
        found += filter(None, map(answer, cable.run(_STEP)))
        if board.cycles - began > _MOST:
            raise Failure(f"{_PACKETS - len(found)} packets were not answered")
    return board.cycles - began, b"".join(words for _, words in sorted(found))
