"""Memory behind AXI4 masters, for Amaranth's simulator: latency, stalls, errors, and checks."""

from collections import deque

from tritstream.sim.streams import never

__all__ = ["DECERR", "EXOKAY", "OKAY", "SLVERR", "Memory", "offer"]

OKAY, EXOKAY, SLVERR, DECERR = range(4)
PAGE = 4096


async def offer(ctx, stream, payloads, stalls=never):
    """Send payloads like :func:`tritstream.sim.streams.put`, as a testbench in the background.

    Amaranth warns of a testbench that is ended while it awaits ``until``.
    """
    for payload in payloads:
        while stalls():
            await ctx.tick()
        ctx.set(stream.payload, payload)
        ctx.set(stream.valid, 1)
        ready = False
        while not ready:
            *_, ready = await ctx.tick().sample(stream.ready)
        ctx.set(stream.valid, 0)


class Memory:
    """Memory that one master reads and writes, in bursts of ``lanes`` bytes per beat.

    Every burst is checked: length, page, place, and that an offered beat is stable until it is
    taken.

    Parameters
    ----------
    lanes : int
    size : int
        Bytes.
    base : int
        Address of the first byte.
    latency : int
        Cycles from an address to its first beat, or to the acknowledgement of a write.
    stalls : function
        Whether a channel pauses in a cycle.
    burst : int
        Largest number of beats.
    response : function of an address, optional
        Response to a beat, or to a written burst.
    """

    def __init__(self, lanes, size, base=0, latency=5, stalls=never, burst=256,
                 response=lambda address: OKAY):
        self.data = bytearray(size)
        self.base, self.lanes, self.burst = base, lanes, burst
        self.latency, self.stalls, self.response = latency, stalls, response
        self.reads, self.writes = [], []    # bursts as (address, beats)
        self.most = 0                       # read bursts outstanding at a time
        self.unfinished = False             # a written burst is not complete
        self.early_last = None              # number of the burst whose RLAST comes a beat early

    def _check(self, address, beats):
        end = address + beats * self.lanes
        assert beats <= self.burst, f"a burst of {beats} beats"
        assert address % self.lanes == 0, f"a burst at {address:#x}"
        assert address // PAGE == (end - 1) // PAGE, f"{address:#x}..{end:#x} crosses a page"
        return address, beats

    def _at(self, address):
        place = address - self.base
        return place if 0 <= place < len(self.data) else None

    async def read(self, ctx, bus):
        """Serve the read channels."""
        waiting, held, clock = deque(), None, 0
        while True:
            ctx.set(bus.arready, not self.stalls())
            due = bool(waiting) and waiting[0][0] <= clock
            beat = due and not self.stalls()
            if beat:
                _, address, left, number = waiting[0]
                place = self._at(address)
                if place is not None:
                    word = self.data[place:place + self.lanes]
                    ctx.set(bus.rdata, int.from_bytes(word, "little"))
                last = left == 1 or (number == self.early_last and left == 2)
                ctx.set(bus.rlast, last)
                ctx.set(bus.rresp, DECERR if place is None else self.response(address))
            ctx.set(bus.rvalid, bool(beat))
            *_, arvalid, arready, araddr, arlen, rready = await ctx.tick().sample(
                bus.arvalid, bus.arready, bus.araddr, bus.arlen, bus.rready)
            if held is not None:
                assert arvalid and (araddr, arlen) == held, "an address was withdrawn"
            held = (araddr, arlen) if arvalid and not arready else None
            if arvalid and arready:
                self.reads.append(self._check(araddr, arlen + 1))
                waiting.append([clock + self.latency, araddr, arlen + 1, len(self.reads)])
                self.most = max(self.most, len(waiting))
            if beat:
                # A master that requests only what it has room for takes every beat at once.
                assert rready, "a word was not taken"
                waiting[0][1] += self.lanes
                waiting[0][2] -= 1
                if not waiting[0][2]:
                    waiting.popleft()
            clock += 1

    async def write(self, ctx, bus):
        """Serve the write channels."""
        addresses, beats, answers, clock = deque(), deque(), deque(), 0
        held = dict.fromkeys(("aw", "w"))
        while True:
            ctx.set(bus.awready, not self.stalls())
            ctx.set(bus.wready, not self.stalls())
            answer = bool(answers) and answers[0][0] <= clock and not self.stalls()
            if answer:
                ctx.set(bus.bresp, answers[0][1])
            ctx.set(bus.bvalid, bool(answer))
            *_, aw, awready, address, length, w, wready, data, last, bready = (
                await ctx.tick().sample(bus.awvalid, bus.awready, bus.awaddr, bus.awlen, bus.wvalid,
                                        bus.wready, bus.wdata, bus.wlast, bus.bready))
            for name, valid, ready, payload in (
                    ("aw", aw, awready, (address, length)), ("w", w, wready, (data, last))):
                if held[name] is not None:
                    assert valid and payload == held[name], f"{name} was withdrawn"
                held[name] = payload if valid and not ready else None
            if answer and bready:
                answers.popleft()
            if aw and awready:
                addresses.append(self._check(address, length + 1))
            if w and wready:
                beats.append((data, last))
            if addresses and len(beats) >= addresses[0][1]:
                answers.append((clock + self.latency, self._store(*addresses.popleft(), beats)))
            clock += 1
            self.unfinished = bool(addresses or beats)

    def _store(self, address, count, beats):
        self.writes.append((address, count))
        response, place = self.response(address), self._at(address)
        for number in range(count):
            data, last = beats.popleft()
            assert last == (number == count - 1), f"WLAST at beat {number} of {count}"
            if place is not None and response == OKAY:
                at = place + number * self.lanes
                self.data[at:at + self.lanes] = data.to_bytes(self.lanes, "little")
        return DECERR if place is None else response
