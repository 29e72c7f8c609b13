"""Commands on a serial port: a pseudo-terminal, with a device in memory at its far end."""

import json

import pytest
from cli_helpers import command_fails, run_command
from model_helpers import MODEL, PROMPT
from test_host_serial_transport import Board, peer_of
from text_cases import make_text

from golden.packer import pack_checkpoint


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d2"
    pack_checkpoint(MODEL, path, 2)
    return path


@pytest.fixture
def port():
    board = Board()
    peer_of(board, lanes=32, columns=4, max_k=512)
    yield f"serial:{board.port},baud=3000000,timeout=20"
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


def test_eval(packed, port, tmp_path):
    text = tmp_path / "text"
    text.write_text(make_text(300), encoding="utf-8")
    asked = ["eval", packed, "--text", text, "--ctx", 64, "--tokens", 124, "-o", tmp_path / "eval"]
    found, golden = (report(*asked, "--backend", *backend)["models"][-1]
                     for backend in (["device", "--device", port], ["golden"]))
    assert found["backend"] == "device"
    assert found["perplexity"] == golden["perplexity"]


@pytest.mark.parametrize("command", [["run"], ["generate", "--prompt", "a"]])
def test_no_such_port(packed, command):
    assert command_fails(command[0], packed, *command[1:], "--device", "serial:/dev/ttyNONE") == (
        "/dev/ttyNONE: cannot open it: no such port; `python -m serial.tools.list_ports` lists "
        "those there are")
