"""Compiled devices in the cache."""

import os

from tritstream.sim import build


def test_a_damaged_library_is_compiled_again(cache, monkeypatch):
    compiled = []

    def compile_model(folder, *_):
        compiled.append(folder)
        (folder / "device.so").write_bytes(b"code")
        return folder / "device.so"

    monkeypatch.setattr(build, "compile_model", compile_model)
    rtl = "module top(input [63:0] i__payload);"
    library = build.build_native(8, rtl).library
    os.truncate(library, 2)
    assert build.build_native(8, rtl).library.read_bytes() == b"code"
    assert len(compiled) == 2 and not any(folder.exists() for folder in compiled)
