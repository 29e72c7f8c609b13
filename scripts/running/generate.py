"""Command that generates text with a packed model."""

from contextlib import ExitStack
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.protocol.records import Info
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.console import (
    INTERRUPTED,
    Failure,
    console,
    print_json,
    progress,
    reports_errors,
    text_shows_progress,
)
from tritstream.scripts.options import (
    ActivationBits,
    BackendName,
    Columns,
    DeviceSpec,
    Json,
    Lanes,
    Packed,
    Seed,
    Stops,
    System,
    Temperature,
    TopK,
    TopP,
)
from tritstream.scripts.running.generation_report import make_report, show
from tritstream.scripts.running.passes import shown_passes
from tritstream.scripts.running.run import tell_of_building
from tritstream.scripts.weights.glob_options import numbers_by_glob

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tritstream.host.model.backends import ActivationBits as BitsByName
    from tritstream.host.model.backends import Backend
    from tritstream.host.model.generation import Generation
    from tritstream.host.model.sampling import Sampling

__all__ = ["BitsFor", "bits_by_name", "generate", "open_backend", "open_model", "print_text",
           "room_for", "sampling_of", "tell_unused"]

BitsFor = Annotated[list[str] | None, typer.Option(
    metavar="GLOB=BITS", help="Bits of activations for the modules whose names match GLOB. May be "
                              "repeated; the last match counts.")]

_BACKENDS = ("device", "golden", "cpu", "cuda", "reference")


@reports_errors
def generate(
    packed: Packed,
    prompt: Annotated[str, typer.Option(help="Text to continue.")],
    chat: Annotated[bool, typer.Option(
        "--chat", help="Put the prompt into the checkpoint's chat template.")] = False,
    system: System = None,
    tokens: Annotated[int, typer.Option(
        "--tokens", "--max-new-tokens", help="Maximum number of new tokens.")] = 64,
    stop: Stops = None,
    backend: BackendName = "device",
    device: DeviceSpec = "sim",
    lanes: Lanes = 8,
    columns: Columns = 1,
    activation_bits: ActivationBits = 8,
    activation_bits_for: BitsFor = None,
    temperature: Temperature = 0.0,
    top_p: TopP = None,
    top_k: TopK = None,
    seed: Seed = 0,
    clock: Annotated[float | None, typer.Option(
        help="Clock in MHz to which the measured cycles are projected.",
        show_default="the device's own")] = None,
    link: Annotated[float | None, typer.Option(
        help="Rate in MB/s of a link to which the measured bytes are projected.")] = None,
    compare: Annotated[Path | None, typer.Option(
        help="Report which tokens this unquantized checkpoint would have chosen.")] = None,
    as_json: Json = False,
):
    """Generate text with a packed model whose linear layers run on a device."""
    from tritstream.host.model.generation import generate_text
    from tritstream.host.model.load import check_path, is_packed, load_tokenizer
    from tritstream.host.model.prompts import prompt_tokens
    from tritstream.host.model.traffic import token_traffic

    checkpoint, tokenizer = PackedCheckpoint(packed), load_tokenizer(packed)
    sampling = sampling_of(temperature, top_p, top_k, seed)
    ids = prompt_tokens(tokenizer, prompt, chat, system)
    bits = bits_by_name(checkpoint, activation_bits, activation_bits_for or [])
    if compare:                     # an error must come before the work, not after it
        check_path(compare)
        is_packed(compare)
    count = room_for(checkpoint, len(ids), tokens)
    with ExitStack() as stack:
        made, info = open_backend(stack, backend, DeviceConfig(lanes, columns), bits, device)
        model = open_model(checkpoint, made)
        stack.enter_context(shown_passes(model, checkpoint.matrices, len(ids), count,
                                         as_json or not text_shows_progress()))
        result = generate_text(model, tokenizer, ids, count, take_cost=made.take_cost,
                               emit=_ignore if as_json else print_text, sampling=sampling,
                               stops=stop or [])
    report = make_report(result, info, token_traffic(model, checkpoint), clock, link)
    report |= {"backend": backend, "activation_bits": bits}
    if compare:
        report["compared"] = _compare(compare, tokenizer, result)
    tell_unused(packed, result.unused)
    print_json(report) if as_json else show(report)
    if result.interrupted:
        raise Failure(f"interrupted after {len(result.tokens)} tokens", INTERRUPTED)


def open_backend(
    stack: ExitStack, name: str, config: DeviceConfig, activation_bits: "BitsByName",
    device: str = "sim",
) -> tuple["Backend", Info | None]:
    """Return the backend of that name, and the description of its device if it has one.

    ``device`` is a specification for :func:`.open_device`. A simulated device follows ``config``
    unless its specification says otherwise. ``stack`` closes the device.
    """
    from tritstream.host.model.load import make_backend
    from tritstream.host.model.packed import device_backend

    if name not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(_BACKENDS)}, not {name!r}")
    if name != "device":
        return make_backend(name, activation_bits), None
    tell_of_building(device)
    backend = device_backend(stack, device, activation_bits, config)
    return backend, backend.identify()


def bits_by_name(
    checkpoint: PackedCheckpoint, bits: int, rules: list[str],
) -> dict[str, int]:
    """Return bits of activations by pattern of module names: ``bits``, then rules ``GLOB=BITS``.

    Raises :class:`ValueError` for a rule that is malformed or matches no matrix.
    """
    found = numbers_by_glob("--activation-bits-for", "BITS", rules)
    for glob in found:
        if not any(fnmatchcase(name, glob) for name in checkpoint.matrices):
            raise ValueError(f"{checkpoint.path}: no matrix fits {glob!r}; `tritstream inspect` "
                             "lists them")
    return found if "*" in found else {"*": bits, **found}


def sampling_of(
    temperature: float, top_p: float | None, top_k: int | None, seed: int,
) -> "Sampling":
    """Return how tokens are chosen; raise :class:`ValueError` for values without an effect."""
    from tritstream.host.model.sampling import Sampling

    if not temperature and (top_p is not None or top_k is not None):
        raise ValueError("--top-p and --top-k need a --temperature above 0: at 0 the most likely "
                         "token is taken")
    return Sampling(temperature, top_p, top_k, seed)


def room_for(checkpoint: PackedCheckpoint, prompt: int, tokens: int) -> int:
    """Return the number of new tokens that the context has room for, up to ``tokens``.

    It prints a warning if that is less than ``tokens``. Raises :class:`ValueError` if the context
    has no room, or if ``tokens`` is not positive.
    """
    from tritstream.host.model.prompts import context_length
    from tritstream.host.model.skeleton import read_config

    if tokens < 1:
        raise ValueError(f"--tokens must be at least 1, not {tokens}")
    context = context_length(read_config(checkpoint.path, checkpoint.config))
    if context is None or prompt + tokens <= context:
        return tokens
    if prompt >= context:
        raise ValueError(f"the prompt has {prompt} tokens, and the context of the model is "
                         f"{context}; give a shorter one")
    console.print(f"warning: the prompt has {prompt} of the {context} tokens of the context, so at "
                  f"most {context - prompt} new tokens follow, not {tokens}",
                  soft_wrap=True, markup=False)
    return context - prompt


def tell_unused(packed: Path, settings: list[str]) -> None:
    """Print a warning with the settings of a checkpoint that have no effect, if any."""
    if settings:
        console.print(f"warning: {packed / 'generation_config.json'}: not used here: "
                      f"{', '.join(settings)}", markup=False, soft_wrap=True)


def open_model(checkpoint: PackedCheckpoint, backend: "Backend") -> "PreTrainedModel":
    """Load a model whose packed layers a backend multiplies, and show the progress."""
    from tritstream.host.model.load import load_model

    with progress("loading", len(checkpoint.matrices)) as advance:
        return load_model(checkpoint.path, backend=backend,
                          progress=lambda name: advance(1, name))


def _compare(path: Path, tokenizer: "PreTrainedTokenizerBase", result: "Generation") -> dict:
    from tritstream.host.model.agreement import agreement
    from tritstream.host.model.load import load_model

    found = agreement(load_model(path), result.prompt, result.tokens)
    return {"model": str(path), **asdict(found),
            "tokens_text": tokenizer.batch_decode([[token] for token in result.tokens]),
            "choices_text": tokenizer.batch_decode([[choice] for choice in found.choices])}


def print_text(text: str) -> None:
    """Print a part of a text at once."""
    print(text, end="", flush=True)


def _ignore(text: str) -> None:
    pass
