"""Commands in this process: quick, where what counts is not that a process was started."""

from typer.testing import CliRunner

from tritstream.scripts.cli import app

__all__ = ["command_fails", "run_command"]


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
