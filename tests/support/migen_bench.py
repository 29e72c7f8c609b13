"""Simulate a LiteX module cycle by cycle in Migen's simulator."""

from collections.abc import Callable, Generator, Iterable

from migen.sim import passive, run_simulation

from tritstream.sim.streams import never

__all__ = ["cycles", "levels", "memory", "pull"]


def pull(endpoint, *fields):
    """Return the fields of a transfer that this clock edge makes at an endpoint, or None."""
    if (yield endpoint.valid) and (yield endpoint.ready):
        values = []
        for field in fields:
            values.append((yield getattr(endpoint, field)))
        return tuple(values)
    return None


def levels(*signals):
    """Return the levels of signals before this clock edge."""
    found = []
    for signal in signals:
        found.append((yield signal))
    return tuple(found)


def cycles(dut, count: Iterable[int], step) -> None:
    """Simulate a clock cycle for each of ``count``.

    The generator function ``step(cycle)`` reads the levels before the clock edge. What it assigns
    holds after the edge.
    """
    def drive() -> Generator:
        for cycle in count:
            yield from step(cycle)
            yield

    run_simulation(dut, drive())


@passive
def memory(port, store: Callable[[int], int], written: dict[int, int], commands: list,
           stalls=never, latency: int = 3):
    """Behave as a memory behind a LiteDRAM port.

    A word that is not in ``written`` is ``store(address)``. ``commands`` gets (address, we) of each
    command.
    """
    mask = (1 << port.data_width) - 1
    reads, writes, cycle = [], [], 0
    while True:
        command = yield from pull(port.cmd, "addr", "we")
        if command:
            commands.append(command)
            address, write = command
            (writes if write else reads).append((cycle + latency, address))
        if (yield from pull(port.rdata)) is not None:
            reads.pop(0)
        word = yield from pull(port.wdata, "data", "we")
        if word:
            _, address = writes.pop(0)
            data, enable = word
            kept = sum(0xFF << 8 * byte for byte in range(port.data_width // 8)
                       if not enable >> byte & 1)
            old = written.get(address, store(address) & mask)
            written[address] = old & kept | data & ~kept & mask
        yield port.cmd.ready.eq(not stalls())
        yield port.wdata.ready.eq(bool(writes) and writes[0][0] <= cycle)
        due = bool(reads) and reads[0][0] <= cycle and not stalls()
        yield port.rdata.valid.eq(due)
        if due:
            address = reads[0][1]
            yield port.rdata.data.eq(written.get(address, store(address) & mask))
        yield
        cycle += 1
