"""The command line, in this process or in one of its own."""

from pathlib import Path

from typer.testing import CliRunner

from tritstream.scripts.cli import app

from support.forked import COMMANDS, run_forked

__all__ = ["MODEL", "command_fails", "fails", "run_command", "tritstream"]

#: The shipped model.
MODEL = Path(__file__).parents[2] / "models" / "tiny-qwen2"


def run_command(*arguments):
    """Exit code, standard output and standard error of the command."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr


def command_fails(*arguments):
    """The one line that a failing command says, after ``error: ``."""
    code, _, said = run_command(*arguments)
    assert code == 1, said
    line, = said.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def tritstream(*arguments):
    """Exit code, standard output and standard error of the command, in a process of its own."""
    done = run_forked("from tritstream.scripts.cli import main; main()", *arguments,
                      modules=COMMANDS)
    return done.returncode, done.stdout, done.stderr


def fails(*arguments):
    """The one line that a failing command says, after ``error: ``."""
    code, _, err = tritstream(*arguments)
    assert code == 1, err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if not line.startswith("building")]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")
