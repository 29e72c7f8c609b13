"""Commands on models that were trained ternary: rotations, rules for activations, orders."""

from support.cli_helpers import command_fails, run_command
from support.rotated_gguf import rotated_model


def test_inspect_shows_a_rotation(tmp_path):
    rotated_model(tmp_path / "m.gguf")
    assert run_command("import", tmp_path / "m.gguf", "-o", tmp_path / "p")[0] == 0
    code, out, _ = run_command("inspect", tmp_path / "p")
    assert code == 0
    assert "14 matrices multiply vectors that are rotated in blocks of 64\n" in out
    assert "by the rule" not in out
    assert run_command("verify", tmp_path / "p", "--against", tmp_path / "m.gguf")[0] == 0


def test_an_order_of_i2_s(tmp_path):
    rotated_model(tmp_path / "m.gguf")
    for command in ("import", "convert"):
        fault = command_fails(command, tmp_path / "m.gguf", "-o", tmp_path / "p", "--i2s-order",
                              "64")
        assert "has no matrix in I2_S, so it has no order of I2_S; leave the option out" in fault
    assert "the order of I2_S must be one of 128, 64, rows, not 32" in command_fails(
        "import", tmp_path / "m.gguf", "--probe", "--i2s-order", "32")
