"""The command line itself: version, help, completion, exit codes, the shipped model."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tritstream.host.errors import DeviceError
from tritstream.scripts import shipped
from tritstream.scripts.cli import app
from tritstream.scripts.console import Failure, reports_errors

ROOT = Path(__file__).parents[2]


def test_version():
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"tritstream {version('tritstream')}\n")


def commands(command, path=()):
    """Yield all commands of a group, with their words."""
    if hasattr(command, "commands"):
        for name, one in command.commands.items():
            yield from commands(one, (*path, name))
    else:
        yield path, command


def test_every_command_and_option_has_a_help():
    found = list(commands(typer.main.get_command(app)))
    assert len(found) > 30
    for path, command in found:
        assert command.help and command.help.strip().split("\n")[0].endswith((".", ":")), path
        for option in command.params:
            assert getattr(option, "help", None) or option.name == "help", (path, option.name)


@pytest.mark.parametrize(("error", "code"), [
    (Failure("it"), 1), (Failure("it", 130), 130), (ValueError("it"), 1), (OSError("it"), 1),
    (DeviceError("it", 6), 1),
])
def test_exit_codes(error, code, capsys):
    @reports_errors
    def fail():
        raise error

    with pytest.raises(SystemExit) as end:
        fail()
    assert (end.value.code, capsys.readouterr().err) == (code, "error: it\n")


def test_exit_code_of_an_interrupt(capsys):
    @reports_errors
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        interrupt()
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted: run the command again to resume\n"


def test_exit_code_of_wrong_arguments():
    assert CliRunner().invoke(app, ["quantize", "--no-such-option"]).exit_code == 2
    assert CliRunner().invoke(app, ["no-such-command"]).exit_code == 2


def test_completion():
    asked = os.environ | {"_TRITSTREAM_COMPLETE": "complete_bash", "COMP_WORDS": "tritstream qu",
                          "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", "import sys; sys.argv[0] = 'tritstream'; "
                           "from tritstream.scripts.cli import main; main()"],
                          env=asked, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["quantize"]


def test_shipped_model_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert shipped.shipped_model() == Path("models/tiny-qwen2")
    monkeypatch.chdir(tmp_path)
    assert shipped.shipped_model() == ROOT / "models" / "tiny-qwen2"


def test_the_wheel_has_the_shipped_model_where_it_is_looked_for():
    text = (ROOT / "setup.py").read_text()
    assert '"tritstream.models": "models"' in text
    assert '"tritstream.models": ["tiny-qwen2/*", "tiny-ternary/*"]' in text
    assert shipped._PLACE.relative_to(Path(shipped.__file__).parents[1]) == (
        Path("models") / "tiny-qwen2")


def test_no_shipped_model(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "_PLACE", tmp_path / "none")
    done = CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "out")])
    assert (done.exit_code, done.stderr) == (
        1, f"error: {tmp_path}/none: the shipped model is missing; name one with --model\n")
