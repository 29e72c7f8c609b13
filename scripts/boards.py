"""Commands on boards: list, build, program, selftest."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from host.serial_transport import TIMEOUT, SerialTransport
from scripts.console import print_json, progress, reports_errors, write_text
from scripts.selftest import Soak, selftest

__all__ = ["selftest_command"]


@reports_errors
def selftest_command(
    port: Annotated[str, typer.Option(help="Serial port of the board, /dev/ttyUSB0 or the like.")],
    baud: Annotated[int, typer.Option(help="Bits a second, as `hw list` tells.")] = 3_000_000,
    timeout: Annotated[float, typer.Option(help="Seconds of silence before a retry.")] = TIMEOUT,
    seconds: Annotated[float, typer.Option(help="How long to try random products.")] = 60.0,
    jobs: Annotated[int | None, typer.Option(
        help="Try so many random products instead, however long it takes.")] = None,
    size: Annotated[int, typer.Option(help="Bytes of the largest packed matrix.")] = 1 << 18,
    seed: Annotated[int, typer.Option(help="Of the random products.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Report to write.")] =
        Path("build/selftest.json"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
):
    """Try out a board: refusals, known products at every depth, random ones for a while."""
    soak = Soak(seconds, jobs, size, seed)
    transport = SerialTransport(port, baud, timeout)
    try:
        with progress("trying", jobs or seconds) as advance:
            report = asyncio.run(selftest(transport, soak, advance))
    finally:
        transport.close()
    write_text(output, json.dumps(report, indent=2))
    if as_json:
        print_json(report)
        return
    _show(report)
    print(f"report: {output}")


def _show(report):
    device, soak, counters = report["device"], report["soak"], report["counters"]
    print(f"device    L = {device['lanes']}, B = {device['columns']}, K up to {device['max_k']}, "
          f"{device['clock_hz'] / 1e6:g} MHz, build {device['build_id']:08x}")
    print(f"refusals  {report['refusals']} wrong requests refused")
    print(f"depths    {report['depths']} right")
    print(f"soak      {soak['jobs']} products in {soak['seconds']:.1f} s, "
          f"{soak['rows_compared']} rows right, {soak['bytes_per_second']} bytes of weights/s")
    print(f"link      {report['retries']} retries")
    print(f"counters  {counters['frames_good']} frames good, {counters['frames_bad']} bad, "
          f"last error {counters['last_error']}, {counters['cycles']} cycles")
