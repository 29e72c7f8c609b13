"""Stand-ins for the tools that build a board's bitstream."""

import json

__all__ = ["Tools"]

PRODUCTS = {"--bit": "top.bit", "top.bit": "top.bit", "top.bin": "top.bin", "-o": "top.fs"}


class Tools:
    """Stand-ins: they remember how they were called and leave what the real ones would."""

    def __init__(self, reached=100.0, wanted=50.0):
        self.calls = []
        self._clocks = {"spare": {"achieved": 400.0, "constraint": 12.0},
                        "clock": {"achieved": reached, "constraint": wanted}}

    def __call__(self, name, arguments, folder):
        assert not any(str(folder) in argument for argument in arguments)
        self.calls.append((name, arguments))
        if "nextpnr" in name:
            cells = {"LUT": {"used": 5, "available": 10}, "DSP": {"used": 0, "available": 4}}
            (folder / "report.json").write_text(
                json.dumps({"fmax": self._clocks, "utilization": cells}))
        for argument, product in PRODUCTS.items():
            if "pack" in name and argument in arguments:
                (folder / product).write_bytes(b"bits")
