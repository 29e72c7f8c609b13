from dataclasses import replace

import pytest

from tritstream.hw.axi.registers import Error, register
from tritstream.sim.axi_channel import ChannelHalted, SimulatedChannel
from tritstream.sim.axi_core import RegisterRefused
from tritstream.sim.axi_timing import HBM, PLAIN, Cause, Timing

from support.axi_software import CONFIG, LANES, WINDOW, ask, check, responses, session
from support.wire import DONE, Job


@pytest.mark.parametrize("timing", [
    Timing(1), PLAIN, replace(HBM, rate=6.0),
    Timing(30, stall_ar=0.4, stall_r=0.4, stall_aw=0.4, stall_w=0.4, stall_b=0.4, late=0.1,
           latest=500, turn=9, miss=20, banks=2, row=256)])
def test_rows_equal_golden(timing):
    core, channels = session(timing, skew=3)
    assert len(channels) == CONFIG.channels
    for channel in channels:
        for depth, blocks, k in ((1, 1, 16), (3, 3, 48), (4, 2, 1024), (2, 9, 16)):
            check(core, channel, Job(LANES, depth, blocks, k=k, seed=channel.number))
        assert core.errors(channel.number) == 0


def counts_of(timing, job):
    core, (channel, *_) = session(timing)
    check(core, channel, job)       # activations and scales
    core.counts(0)
    ask(channel, job.gemv())
    assert responses(channel, *[40 * LANES] * job.blocks, 32)[-1][0] == DONE
    counts = core.counts(0)
    assert counts.taken == counts.memory[Cause.WORD] == len(job.gemv()) // LANES
    return counts


JOB = Job(LANES, 3, 6, k=1024)


def total(counts):
    return sum(counts[:4]) + sum(counts.empty.values())


def share(counts, *closed):
    """Return the share of words in the cycles without these causes."""
    memory = counts.memory
    return memory[Cause.WORD] / sum(memory[cause] for cause in Cause if cause not in closed)


def test_a_memory_without_pauses_sends_a_word_per_cycle():
    assert share(counts_of(Timing(300), JOB), Cause.WRITE) > 0.997


@pytest.mark.parametrize("timing, cause, expected", [
    (Timing(300, refresh_every=500, refresh=100), Cause.REFRESH, 0.2),
    (Timing(300, gaps=0.1, longest_gap=1), Cause.GAP, 0.1 / 1.1),
    (Timing(300, rate=6.0), Cause.RATE, 0.25),
    (Timing(300, stall_r=0.3), Cause.STALL, 0.3),
    (Timing(300, miss=64, banks=1, row=1024), Cause.ROW, 1 / 3)])
def test_each_pause_takes_its_share(timing, cause, expected):
    counts = counts_of(timing, JOB)
    assert counts.memory[cause] / sum(counts.memory.values()) == pytest.approx(expected, rel=0.1)
    assert counts.empty[cause] / total(counts) == pytest.approx(expected, rel=0.1)
    assert share(counts, cause, Cause.WRITE) > 0.99


def test_rows_of_other_banks_are_opened_in_advance():
    assert share(counts_of(Timing(300, miss=20, banks=4, row=512), JOB), Cause.WRITE) > 0.99


def test_too_few_words_in_flight_wait_for_the_latency():
    counts = counts_of(Timing(300, outstanding=2), JOB)
    assert share(counts, Cause.WRITE) == pytest.approx(128 / (300 + 64), rel=0.02)
    assert counts.empty[Cause.LATENCY] > 0.5 * total(counts)


@pytest.mark.parametrize("errors, expected", [
    ({"slverr": 0.05}, Error.READ_SLVERR), ({"decerr": 0.05}, Error.READ_DECERR)])
def test_errors_halt_a_channel(errors, expected):
    core, (channel, other) = session()
    core.set_timing(0, Timing(**errors), seed=3)
    with pytest.raises(ChannelHalted, match=expected.text):
        check(core, channel, JOB)
    assert core.errors(0) > 0
    check(core, other, JOB)
    core.set_timing(0, Timing())
    channel.restart()
    check(core, channel, JOB)


def test_addresses_outside_the_memory_are_answered_by_decerr():
    core, (channel, *_) = session()
    for name in ("base_high", "ring_high"):
        channel.put(name, 0x12)
        channel.restart()
        with pytest.raises(ChannelHalted, match="DECERR"):
            check(core, channel, JOB)
        channel.put("base_high", 0x7)


def test_a_held_memory_holds_a_restart():
    core, (channel, *_) = session()
    ask(channel, JOB.gemv())
    core.run(20)
    core.hold(0, 30_000)
    with pytest.raises(ChannelHalted, match="channel 0 does not restart within 10000 cycles"):
        channel.restart(10_000)
    core.run(30_000)
    assert channel.get("session") == 2


def test_resets_in_the_middle():
    core, (channel, *_) = session(PLAIN)
    for cycles in (10, 400, 2000):
        ask(channel, JOB.activations() + JOB.gemv())
        core.run(cycles)
        core.reset()
        assert core.read(register("session", 0)) == 0
        channel = SimulatedChannel(core, 0, channel.memory, WINDOW)
        channel.restart()
        check(core, channel, JOB)


def test_unknown_registers_are_refused():
    core, _ = session()
    with pytest.raises(RegisterRefused, match="the core has no such register: 0x3fc"):
        core.read(0x3FC)


@pytest.mark.parametrize("wrong, message", [
    ({"latency": 0}, "latency must be at least 1, not 0"),
    ({"stall_r": 1.0}, r"stall_r is a share in \[0, 1\), not 1"),
    ({"turn": -1}, "turn must not be negative, not -1"),
    ({"banks": 65}, r"banks must be 1\.\.64, not 65"),
    ({"refresh_every": 9, "refresh": 9}, "a refresh of 9 cycles leaves no time in 9")])
def test_impossible_times_are_refused(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Timing(**wrong)
