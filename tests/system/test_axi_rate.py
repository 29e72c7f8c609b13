"""Rates of the memory-mapped core: shares of the words of its memory, and their command."""

import json
from dataclasses import replace

import pytest

from tritstream.golden.model_sizes import QWEN25, Sizes
from tritstream.host.protocol.frames import Answer, Header
from tritstream.hw.protocol import Opcode
from tritstream.scripts.reports.bench import axi
from tritstream.scripts.reports.bench.axi_list import layer_list, mismatches, response_bytes
from tritstream.sim.axi_build import build_axi
from tritstream.sim.axi_timing import PLAIN

from support.axi_software import CONFIG
from support.cli_helpers import command_fails, run_command

#: Matrices by their activations; the last has rows for the first channel only.
GROUPS = [[(160, 512), (80, 512)], [(80, 1024)], [(35, 256)]]


def test_lanes_get_what_the_memory_offers():
    found = axi.measure_axi(GROUPS[:2], 3, CONFIG, PLAIN)
    assert found["mismatches"] == found["breaches"] == 0 and found["rows"] == 320
    assert found["gemv_share"] > 0.99 and found["list_share"] > 0.97
    causes = [found[name] for name in ("words", "loading", "between", "product")]
    assert sum(causes) + sum(found["empty"].values()) == found["cycles"]
    assert found["bytes"] == 8 * 2 * found["words"]


def test_channels_apart_are_like_channels_together(monkeypatch):
    # A core with one channel is not compiled here: the second channel does nothing.
    monkeypatch.setattr(axi, "build_axi", lambda _: build_axi(CONFIG))
    together, apart = (axi.measure_axi(GROUPS, 3, CONFIG, PLAIN, apart) for apart in (False, True))
    assert apart["mismatches"] == 0
    for name in ("rows", "words", "bytes", "used_channels"):
        assert apart[name] == together[name]
    assert apart["cycles"] == pytest.approx(together["cycles"], rel=0.03)
    assert apart["list_share"] == pytest.approx(together["list_share"], abs=0.01)


def test_too_few_words_in_flight_lower_the_share():
    found = axi.measure_axi([[(80, 1024)]], 3, CONFIG, replace(PLAIN, outstanding=3))
    assert found["gemv_share"] == pytest.approx(3 * 64 / (300 + 64), rel=0.05)
    assert found["empty"]["latency"] > 0.3 * found["cycles"]


def test_the_list_is_what_the_driver_sends():
    first, second = (layer_list(GROUPS, 3, CONFIG, channel, 1) for channel in range(2))
    assert [len(frames) for frames in (first, second)] == [11, 8]   # a channel has no rows of one
    assert sum(frame.sums is not None for frame in second) == 3
    assert sum(frame.sums.size for frame in first if frame.sums is not None) == 80 + 40 + 40 + 40
    assert [frame.sequence for frame in first] == list(range(1, 12))
    whole = layer_list([[(40 * 80, 4096)]], 4, CONFIG, 0, 1)
    assert len(whole) == 4      # more than 4 MB, so two GEMVs


def responses(frames):
    found = []
    for frame in frames:
        def add(opcode, block=0, payload=b"", frame=frame):
            found.append(Answer(Header(opcode, frame.sequence, block, 0, len(payload)), payload))
        for block in range(0 if frame.sums is None else len(frame.sums)):
            add(Opcode.RESULT, block, frame.sums[block].astype("<i8").tobytes())
        add(Opcode.ACK if frame.sums is None else Opcode.DONE)
    return found


def test_wrong_rows_are_counted():
    frames = layer_list(GROUPS, 2, CONFIG, 0, 1)
    given = responses(frames)
    assert mismatches(frames, given) == 0
    frames[2].sums[0, 3] += 1
    assert mismatches(frames, given) == 1
    assert response_bytes(frames[:1], 8) == 32
    with pytest.raises(ValueError, match="there are more responses than expected"):
        mismatches(frames, [*given, given[0]])
    with pytest.raises(ValueError, match=r"response Header\(.*\) in place of \(<Opcode.RESULT"):
        mismatches(frames, given[:2] + given[3:])
    with pytest.raises(ValueError, match="response None in place of"):
        mismatches(frames, given[:-1])


def test_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(QWEN25, "tiny", Sizes(1, 64, 128, 2, 1, 32, 100))
    monkeypatch.setattr(axi, "build_axi", lambda _: build_axi(CONFIG))
    report = tmp_path / "axi.json"
    options = "dev", "bench", "axi", "--size", "tiny", "--channels", 2
    code, out, err = run_command(*options, "--memory", "hbm", "-o", report)
    assert code == 0, err
    written = json.loads(report.read_text())
    case, = written["cases"]
    assert written["memory"] == "hbm" and written["timing"]["rate"] == 57.5
    assert case["mismatches"] == 0 and f"{case['list_share']:.4f}" in out
    monkeypatch.setattr(axi, "mismatches", lambda *_: 1)
    assert command_fails(*options) == (
        "2 rows differ from golden, or rules of AXI4 were broken")


@pytest.mark.parametrize("options, message", [
    (("--size", "33B"), "no size '33B' of Qwen2.5; there are 0.5B, 1.5B, 3B, 7B, 14B, 32B, 72B"),
    (("--memory", "ddr"), "memory must be one of plain, hbm, not 'ddr'"),
    (("--lanes", "4"), "a channel has 8, 16, 32 or 64 lanes, not 4"),
    (("--buffer", "100"), "the buffer must hold two bursts to 16384 words, not 100")])
def test_wrong_options_are_refused(options, message):
    assert command_fails("dev", "bench", "axi", *options) == message
