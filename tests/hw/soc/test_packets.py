"""The packet buffer alone: which packets pass, and that they pass whole and one at a time."""

import numpy as np
import pytest

from tritstream.hw.soc.packets import PacketBuffer
from tritstream.sim.streams import coin, never

from support.migen_bench import cycles, levels, pull

FIELDS = ("data", "ip_address", "src_port", "last", "last_be")


def packet(writes=0, reads=0, more=0, magic=0x6F4E, seed=0):
    """Words of a packet with a record of some writes and reads, ``more`` longer than it says."""
    size = 3 + writes + (writes > 0) + reads + (reads > 0) + more
    words = np.random.default_rng([writes, reads, seed]).integers(0, 1 << 32, size)
    words[0] = words[0] & 0xFFFE0000 | magic
    if size > 2:
        words[2] = words[2] & 0xFFFF | writes << 16 | reads << 24
    return [int(word) for word in words]


def run(packets, errors=(), stalls=never, done=never, blocked=0):
    """Return the packets that pass, each as (words, ip_address, src_port).

    ``errors`` holds (packet, word, error). The sink is offered a word in every cycle that
    ``stalls`` leaves, and no word is taken in the first ``blocked`` cycles. A packet is processed
    after it has passed, when ``done`` does not stall.
    """
    dut = PacketBuffer()
    words = [(word, at == len(words) - 1, number, at)
             for number, words in enumerate(packets) for at, word in enumerate(words)]
    errors = {(number, at): error for number, at, error in errors}
    found, current, state = [], [], {"quiet": 0, "processed": True}

    def step(cycle):
        state["quiet"] += 1
        taken = yield from pull(dut.source, *FIELDS)
        if taken:
            data, ip, port, last, last_be = taken
            assert state["processed"], "a packet came before the last one was processed"
            assert last_be == 8 * last
            current.append(data)
            if last:
                found.append((tuple(current), ip, port))
                current.clear()
                state["processed"] = False
            state["quiet"] = 0
        finished = not state["processed"] and not done()
        state["processed"] |= finished
        yield dut.done.eq(finished)
        yield dut.source.ready.eq(cycle >= blocked and not stalls())
        offered = bool(words) and not stalls()
        yield dut.sink.valid.eq(offered)
        yield dut.sink.last.eq(1)       # of no word this means nothing
        if offered:
            word, last, number, at = words.pop(0)
            yield dut.sink.data.eq(word)
            yield dut.sink.last.eq(last)
            yield dut.sink.error.eq(errors.get((number, at), 0))
            yield dut.sink.ip_address.eq(1000 + number)
            yield dut.sink.src_port.eq(2000 + number)
            state["quiet"] = 0
        assert (yield from levels(dut.sink.ready)) == (1,)

    def until_quiet():
        for cycle in range(limit):
            if cycle > blocked and state["quiet"] > 120:
                return
            yield cycle
        raise AssertionError(f"words still come after {limit} cycles")

    limit = blocked + 10 * len(words) + 1000
    cycles(dut, until_quiet(), step)
    assert not current
    return found


def passed(packets, numbers):
    return [(tuple(packets[number]), 1000 + number, 2000 + number) for number in numbers]


SIZES = [(0, 1), (1, 0), (1, 1), (2, 4), (4, 2), (8, 16), (16, 8), (32, 64), (64, 32), (128, 0),
         (0, 128), (60, 0), (61, 0), (62, 0), (63, 0), (252, 0), (0, 252), (125, 126)]


@pytest.mark.parametrize("sizes, stalls", [
    (SIZES[:9], never), (SIZES[:9], coin(1, 0.5)), (SIZES[9:15], never), (SIZES[15:], never)])
def test_packets_whose_length_fits_their_record_pass(sizes, stalls):
    packets = [packet(*size) for size in sizes]
    assert run(packets, stalls=stalls, done=stalls) == passed(packets, range(len(packets)))


WRONG = {
    "no record":          packet(0, 0),
    "one word":           packet()[:1],
    "two words":          packet(3)[:2],
    "too long":           packet(253, 0),
    "too long, 320":      packet(200, 115),
    "too long, 515":      packet(255, 255),
    **{f"longer by {more}": packet(5, 3, more) for more in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)},
    **{f"shorter by {less}": packet(130, 0, -less) for less in (1, 2, 64, 128)},
    **{f"bit {bit} of the magic": packet(2, 2, magic=0x6F4E ^ 1 << bit) for bit in range(17)},
    # Their lengths differ in the lowest bit alone.
    "longer by 1, of 12":    packet(4, 3, 1),
    "shorter by 1, of 135":  packet(131, 0, -1),
}


@pytest.mark.parametrize("some", [range(0, 8), range(8, 14), range(14, len(WRONG))])
def test_wrong_packets_are_dropped_whole(some):
    packets = [packet(1, 1)]
    for number in some:
        packets += [list(WRONG.values())[number], packet(2, 2, seed=number)]
    assert run(packets) == passed(packets, [0, *range(2, len(packets), 2)])


@pytest.mark.parametrize("error", [1, 2, 4, 8])
def test_a_packet_with_an_error_in_any_word_is_dropped(error):
    packets = [packet(2, 2, seed=number) for number in range(5)]
    ends = [(0, 0, error), (2, 4, error), (3, len(packets[3]) - 1, error)]
    assert run(packets, ends) == passed(packets, [1, 4])


def test_a_full_buffer_drops_packets_and_no_words():
    # Eight packets fill it to the last word; none is read meanwhile.
    packets = [*(packet(252, 0, seed=seed) for seed in range(8)), packet(1), packet(0, 2)]
    assert run(packets, blocked=8 * 256 + 30) == passed(packets, range(8))


def test_a_packet_whose_last_word_finds_no_room_is_dropped():
    packets = [*(packet(252, seed=seed) for seed in range(7)), packet(196), packet(53), packet(1)]
    assert sum(map(len, packets[:9])) == 2049
    assert run(packets, blocked=2060) == passed(packets, [*range(8), 9])


def test_a_packet_that_lost_words_is_dropped_although_there_is_room_at_its_end():
    packets = [*(packet(252, seed=seed) for seed in range(9)), packet(1)]
    assert run(packets, blocked=8 * 256 + 100) == passed(packets, [*range(8), 9])


def test_words_of_packets_that_are_not_counted_are_dropped():
    # Sixteen packets and the one at the output wait; others come while they leave.
    packets = [packet(1, seed=seed) for seed in range(60)]
    found = run(packets, blocked=130)
    numbers = [port - 2000 for *_, port in found]
    assert found == passed(packets, numbers)
    assert numbers[:16] == [*range(16)] and numbers[-1] > 40 and len(numbers) < 55


def test_more_packets_than_it_counts_are_dropped():
    packets = [packet(1, seed=seed) for seed in range(40)]
    found = run(packets, blocked=300)
    numbers = [port - 2000 for *_, port in found]
    assert 16 <= len(numbers) < 40 and found == passed(packets, numbers)
    assert numbers == list(range(len(numbers)))
