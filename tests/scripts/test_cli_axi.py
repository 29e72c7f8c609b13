"""``tritstream hw axi``: the package that it writes, and what it refuses."""

import re

import pytest

from support.cli_helpers import command_fails, run_command


def test_the_package_is_written(tmp_path):
    code, said, _ = run_command("hw", "axi", "-o", tmp_path / "axi", "--channels", 3, "--lanes", 8,
                                "--max-k", 64)
    assert code == 0
    build_id, = re.fullmatch(r"package: \S+axi, 3 channels of 8 lanes, build id ([0-9a-f]{8})\n",
                             said.replace("\n", "", said.count("\n") - 1)).groups()
    folder = tmp_path / "axi"
    files = {path.relative_to(folder).as_posix(): path.read_text()
             for path in folder.rglob("*.*")}
    assert sorted(files) == [
        "component.xml", "gemv.c", "gemv.h", "gemv_main.c", "gemv_uio.c", "kv260.tcl",
        "tritstream_axi.core", "tritstream_axi.h",
        "tritstream_axi.rdl", "tritstream_axi.v", "tritstream_axi_registers.md",
        *(f"vitis/{name}" for name in ("component.xml", "kernel.xml", "package.tcl",
                                       "tritstream_kernel.v", "u280.cfg", "u55c.cfg"))]
    assert f"//   build id {build_id}\n" in files["tritstream_axi.v"]
    assert "channel_bank channel[3] @" in files["tritstream_axi.rdl"]


@pytest.mark.parametrize("options, message", [
    (["--lanes", 4], "a channel has 8, 16, 32 or 64 lanes, not 4"),
    (["--channels", 33], "channels must be 1..32, not 33"),
    (["--burst", 256], "a burst of 32 lanes must be a power of two from 2 to 128 beats, not 256"),
    (["--buffer", 100], "the buffer must hold two bursts to 16384 words, not 100"),
])
def test_wrong_options(tmp_path, options, message):
    assert command_fails("hw", "axi", "-o", tmp_path / "axi", *options) == message
    assert not (tmp_path / "axi").exists()
