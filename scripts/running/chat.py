"""Command that talks with a packed model in the terminal."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.console import console, reports_errors
from tritstream.scripts.options import (
    ActivationBits,
    BackendName,
    Columns,
    DeviceSpec,
    Lanes,
    Packed,
    Seed,
    Stops,
    System,
    Temperature,
    TopK,
    TopP,
)
from tritstream.scripts.running.generate import (
    BitsFor,
    bits_by_name,
    open_backend,
    open_model,
    print_text,
    sampling_of,
    tell_unused,
)

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from tritstream.host.model.conversation import Conversation
    from tritstream.host.model.generation import Generation

__all__ = ["chat"]

_HELP = """\
/reset        forget the conversation
/system TEXT  forget the conversation, and begin with this system message
/again        answer the last message again
/exit         end, as Ctrl-D does
\"\"\"           begin and end of a message of several lines
Ctrl-C ends an answer."""


@reports_errors
def chat(
    packed: Packed,
    system: System = None,
    tokens: Annotated[int, typer.Option(
        "--tokens", "--max-new-tokens", min=1, help="Maximum number of tokens per answer.")] = 512,
    stop: Stops = None,
    backend: BackendName = "device",
    device: DeviceSpec = "sim",
    lanes: Lanes = 8,
    columns: Columns = 4,
    activation_bits: ActivationBits = 8,
    activation_bits_for: BitsFor = None,
    temperature: Temperature = 0.0,
    top_p: TopP = None,
    top_k: TopK = None,
    seed: Seed = 0,
):
    """Talk with a packed model.

    Each line is a message. /help lists what else can be entered. If standard input is not a
    terminal, each of its lines is a message too, and only the answers are printed.
    """
    from tritstream.host.model.conversation import Conversation
    from tritstream.host.model.load import load_tokenizer
    from tritstream.host.model.prompts import NoTemplate, chat_tokens
    from tritstream.host.model.settings import only_used

    checkpoint, tokenizer = PackedCheckpoint(packed), load_tokenizer(packed)
    sampling = sampling_of(temperature, top_p, top_k, seed)
    bits = bits_by_name(checkpoint, activation_bits, activation_bits_for or [])
    first = [] if system is None else [{"role": "system", "content": system}]
    try:                            # an error must come before the work, not after it
        chat_tokens(tokenizer, [*first, {"role": "user", "content": "Hello"}])
    except NoTemplate as error:
        raise ValueError(f"{error}, so it is no model to talk with; `tritstream generate` "
                         "continues a text") from None
    with ExitStack() as stack:
        made, _ = open_backend(stack, backend, DeviceConfig(lanes, columns), bits, device)
        model = open_model(checkpoint, made)
        tell_unused(packed, stack.enter_context(only_used(model)))
        _talk(Conversation(model, tokenizer, made.take_cost, tokens=tokens, sampling=sampling,
                           stops=stop or [], system=system))


def _talk(conversation: "Conversation") -> None:
    """Answer messages until the end of the input."""
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        console.print("/help lists the commands", markup=False)
    for entered in _messages(is_terminal):
        try:
            if not _obey(conversation, entered):
                return
        except ValueError as error:
            if not is_terminal:
                raise
            console.print(f"error: {error}", markup=False, soft_wrap=True)
        except KeyboardInterrupt:   # before or after the answer itself
            print()


def _obey(conversation: "Conversation", entered: str) -> bool:
    """Answer a message, or carry out a command; return False at the end."""
    command, _, rest = entered.partition(" ")
    if command in ("/exit", "/quit", "/bye"):
        return False
    if command in ("/help", "/?"):
        console.print(_HELP, markup=False)
    elif command in ("/reset", "/clear"):
        conversation.reset(conversation.system)
        console.print("a new conversation", markup=False)
    elif command == "/system":
        conversation.reset(rest.strip() or None)
        console.print("a new conversation", markup=False)
    elif command == "/again":
        _end(conversation.ask_again(print_text))
    elif command.startswith("/"):
        raise ValueError(f"there is no command {command}; /help lists them")
    elif entered.strip():
        _end(conversation.ask(entered, print_text))
    return True


def _end(result: "Generation") -> None:
    print(flush=True)
    if result.interrupted:
        console.print("(interrupted)", markup=False)
    elif result.is_cut:
        console.print(f"(cut after {len(result.tokens)} tokens)", markup=False)


def _messages(is_terminal: bool) -> Iterator[str]:
    """Yield what is entered: lines, and texts of several lines between triple quotes."""
    lines = _lines(is_terminal)
    for line in lines:
        if not line.startswith('"""'):
            yield line
            continue
        parts = [line.removeprefix('"""')]
        while not parts[-1].endswith('"""') and (more := next(lines, None)) is not None:
            parts.append(more)
        yield "\n".join(parts).removesuffix('"""').strip("\n")


def _lines(is_terminal: bool) -> Iterator[str]:
    """Yield lines of the input, with editing on a terminal, until it ends."""
    if not is_terminal:
        yield from (line.rstrip("\r\n") for line in sys.stdin)
        return
    with suppress(ImportError):     # some systems lack it
        import readline  # noqa: F401 - input() edits lines once it is imported
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /exit ends)")
