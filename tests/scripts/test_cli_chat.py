"""Talking with a packed model: on a terminal, and with messages from a pipe."""

import io
import os
import pty
import select
import subprocess
import sys

import pytest

from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.host.model.backends import Cost
from tritstream.host.model.conversation import Conversation
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.scripts.running.chat import chat

from support.cli_helpers import command_fails
from support.model_helpers import CHAT_TEMPLATE, MODEL


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d3"
    pack_checkpoint(MODEL, path, 3)
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return path


def answers(packed, *messages, backend="reference", system=None, tokens=4):
    """Answers to messages, one after another."""
    talk = Conversation(load_model(packed, backend=backend), load_tokenizer(packed), Cost,
                        tokens=tokens, system=system)
    return [talk.ask(message, lambda text: None).text for message in messages]


def lines(texts):
    return "".join(f"{text}\n" for text in texts)


def piped(capsys, monkeypatch, packed, text, **options):
    """Output, and the lines of standard error, with ``text`` at standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    chat(packed, backend="reference", tokens=4, **options)
    out, err = capsys.readouterr()
    return out, err.splitlines()


def test_lines_of_a_pipe_are_messages(packed, capsys, monkeypatch):
    out, err = piped(capsys, monkeypatch, packed, "Who?\n\nAnd you?", system="It rained.")
    assert out == lines(answers(packed, "Who?", "And you?", system="It rained."))
    assert err == ["(cut after 4 tokens)"] * 2


def test_commands(packed, capsys, monkeypatch):
    out, err = piped(capsys, monkeypatch, packed, (
        "Who?\n/reset\nAnd you?\n/again\n/system Be kind.\nWho?\n/system\nWho?\n/help\n/exit\nNo"))
    who, you = answers(packed, "Who?")[0], answers(packed, "And you?")[0]
    kind, = answers(packed, "Who?", system="Be kind.")
    assert out == lines([who, you, you, kind, who])
    assert err.count("a new conversation") == 3
    assert any(line.startswith("/reset ") for line in err)


def test_messages_of_several_lines(packed, capsys, monkeypatch):
    out, _ = piped(capsys, monkeypatch, packed, '"""\nWho\nare you?\n"""\n"""one"""\n"""no\nend')
    assert out == lines(answers(packed, "Who\nare you?", "one", "no\nend"))


@pytest.mark.parametrize(("text", "reason"), [
    ("/nope", "there is no command /nope; /help lists them"),
    ("/again", "there is no answer yet"),
    ("a" * 600, "the conversation has 610 tokens with this message, and the context of the model "
                "is 512; begin a new conversation"),
])
def test_a_message_that_fails_ends_a_pipe(packed, capsys, monkeypatch, text, reason):
    with pytest.raises(SystemExit, match="^1$"):
        piped(capsys, monkeypatch, packed, f"{text}\nWho?\n")
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {reason}\n")


def test_refused_before_the_work(packed, tmp_path):
    pack_checkpoint(MODEL, tmp_path / "d3", 3)
    assert command_fails("chat", tmp_path / "d3") == (
        f"{tmp_path / 'd3'}: has no chat template, so it is no model to talk with; `tritstream "
        "generate` continues a text")
    assert command_fails("chat", packed, "--top-k", 3) == (
        "--top-p and --top-k need a --temperature above 0: at 0 the most likely token is taken")


#: The first terminal that a new session opens is its own, and interrupts it.
_ON_TERMINAL = """
import os
os.close(os.open(os.ttyname(0), os.O_RDWR))
from tritstream.scripts.cli import main
main()
"""


class Terminal:
    """A process whose input and output are a terminal."""

    def __init__(self, *arguments):
        self._end, inner = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _ON_TERMINAL, *map(str, arguments)],
            stdin=inner, stdout=inner, stderr=inner, start_new_session=True)
        os.close(inner)
        self.seen = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._end)

    def write(self, text):
        os.write(self._end, text.encode())

    def read_until(self, text):
        """What is shown up to a text, which is left out."""
        while text not in self.seen:
            assert select.select([self._end], [], [], 240)[0], self.seen
            self.seen += os.read(self._end, 4096).decode().replace("\r\n", "\n")
        found, _, self.seen = self.seen.partition(text)
        return found

    def interrupt(self, text):
        """Press Ctrl-C at a prompt until a text is shown: readline may miss an early one."""
        for _ in range(20):
            self.write("\x03")
            if select.select([self._end], [], [], 5)[0]:
                break
        return self.read_until(text)


def test_a_terminal_where_answers_are_interrupted(packed, monkeypatch):
    # Readline marks the prompt for terminals that can; a dumb one gets plain text.
    monkeypatch.setenv("TERM", "dumb")
    whole, = answers(packed, "Who?", backend="golden", tokens=16)
    with Terminal("chat", packed, "--device", "sim:lanes=16", "--tokens", 400) as terminal:
        terminal.read_until("> ")
        terminal.write("Who?\n")
        terminal.read_until("Who?\n")
        begun = terminal.read_until(whole[5:9])
        terminal.write("\x03")
        terminal.read_until("(interrupted)\n> ")
        assert begun == whole.partition(whole[5:9])[0]
        terminal.interrupt("(Ctrl-D or /exit ends)\n> ")
        terminal.write("/nope\n")
        terminal.read_until("error: there is no command /nope; /help lists them\n> ")
        # The device, which was interrupted in the middle, goes on with the right tokens.
        terminal.write("/reset\n")
        terminal.read_until("a new conversation\n> ")
        terminal.write("Who?\n")
        terminal.read_until(f"Who?\n{whole}")
        terminal.write("\x03")
        terminal.read_until("(interrupted)\n> ")
        terminal.write("\x04")
        assert terminal.process.wait(300) == 0
