"""The command that measures how fast a board's link reaches its memory, in cycles of the board."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tritstream.host.board.etherbone import MOST_WORDS, answer, request
from tritstream.hw.soc.registers import MEMORY, register
from tritstream.scripts.console import Failure, console, print_json, reports_errors, write_json
from tritstream.sim.board import SimulatedBoard
from tritstream.sim.cable import Cable
from tritstream.sim.soc_build import SocChoice

__all__ = ["link"]

#: Packets of each kind, and how many are under way: as tritstream.host.board.bus does by itself.
_PACKETS, _WINDOW = 40, 2
_STEP, _MOST = 100, 2_000_000


@reports_errors
def link(
    memory: Annotated[str, typer.Option(help="As of `hw bandwidth`.")] = "mt41k256m16",
    report: Annotated[Path | None, typer.Option(help="Write the JSON report there too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
):
    """Write and read a simulated board's memory by Etherbone packets; cycles of a word."""
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
        raise Failure("what was read is not what was written")
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
    """Cycles until all packets are answered, a few under way at a time; the words of the answers.

    The first answer has the board ask for this end's address, so that is done before.
    """
    cable.send(request(0, 0, b"", [register("magic")]))
    cable.run(20_000)
    began, sent, found = board.cycles, 0, []
    while len(found) < _PACKETS:
        while sent < min(_PACKETS, len(found) + _WINDOW):
            cable.send(packet(sent))
            sent += 1
        found += [answer(data) for data in cable.run(_STEP)]
        if board.cycles - began > _MOST:
            raise Failure(f"{_PACKETS - len(found)} packets were not answered")
    return board.cycles - began, b"".join(words for _, words in sorted(found))
