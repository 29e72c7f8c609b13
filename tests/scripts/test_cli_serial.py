"""Commands on a serial port: a pseudo-terminal, with a device in memory at its far end."""

import json

import pytest

from tritstream.golden.packed.pack import pack_checkpoint

from support.cli_helpers import command_fails, run_command
from support.model_helpers import MODEL, PROMPT
from support.serial_board import Board, peer_of


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d2"
    pack_checkpoint(MODEL, path, 2)
    return path


@pytest.fixture
def port():
    board = Board()
    peer_of(board, lanes=32, columns=4, max_k=512)
    yield f"serial:{board.port},baud=3000000,timeout=300"
    board.unplug()


def report(*arguments):
    code, out, said = run_command(*arguments, "--json")
    assert code == 0, said
    return json.loads(out)


def test_run(packed, port):
    found = report("run", packed, "--matrices", "*.layers.0.*", "--vectors", 3, "--device", port)
    assert [device["name"] for device in found["devices"]] == [port]
    assert found["device"]["lanes"] == 32
    assert found["totals"]["matrices"] == 7 and found["totals"]["mismatches"] == 0


def test_generate(packed, port):
    asked = ["generate", packed, "--prompt", PROMPT, "--tokens", 2]
    found = report(*asked, "--device", port)
    golden = report(*asked, "--backend", "golden")
    assert found["device"]["lanes"] == 32 and found["decode"]["words"] > 0
    assert found["token_ids"] == golden["token_ids"]


@pytest.mark.parametrize("command", [
    ["run"], ["generate", "--prompt", "a"], ["vectors"],
    ["eval", "--text", MODEL / "README.md", "--ctx", 64, "--backend", "device", "-o", "eval"],
])
def test_no_such_port(packed, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = [] if command == ["vectors"] else [packed]
    assert command_fails(command[0], *model, *command[1:], "--device", "serial:/dev/ttyNONE") == (
        "/dev/ttyNONE: cannot open it: no such port; `python -m serial.tools.list_ports` lists "
        "those there are")
