"""Command that serves a packed model with the API of OpenAI."""

import signal
import socket
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.console import reports_errors
from tritstream.scripts.options import ActivationBits, BackendName, Columns, DeviceSpec, Lanes
from tritstream.scripts.running.generate import (
    BitsFor,
    bits_by_name,
    open_backend,
    open_model,
    tell_unused,
)
from tritstream.scripts.running.listening import as_text, is_loopback, listen_address, listen_on

if TYPE_CHECKING:
    # torch takes seconds to import, and is an extra.
    from tritstream.host.model.backends import Backend
    from tritstream.host.serving.service import Service

__all__ = ["serve"]

_ADDRESS = "127.0.0.1:8000"

#: Seconds that the server waits for answers in progress when it is stopped.
_GRACE = 5


@reports_errors
def serve(
    packed: Annotated[Path | None, typer.Argument(
        help="Packed checkpoint, a directory.", show_default=False)] = None,
    listen: Annotated[str, typer.Option(
        metavar="HOST:PORT", help="Address to listen on; port 0 takes a free port. An address that "
                                  "other machines reach needs a key.")] = _ADDRESS,
    api_key: Annotated[str | None, typer.Option(
        envvar="TRITSTREAM_API_KEY", help="Key that requests must have. Other users of a machine "
                                          "can read the options of a command, so rather set the "
                                          "variable.")] = None,
    name: Annotated[str | None, typer.Option(
        help="Name of the model in requests.", show_default="name of the directory")] = None,
    parallel: Annotated[int | None, typer.Option(
        min=1, help="Maximum number of answers in progress.",
        show_default="as many as share a pass over the weights")] = None,
    backend: BackendName = "device",
    device: DeviceSpec = "sim",
    lanes: Lanes = 8,
    columns: Columns = 4,
    activation_bits: ActivationBits = 8,
    activation_bits_for: BitsFor = None,
):
    """Serve a packed model over HTTP with the API of OpenAI: chat completions and completions.

    Answers in progress share the passes of the device over the weights. The command that shares a
    device over TCP is `tritstream share-device`.
    """
    if packed is None:
        raise ValueError("serve needs the directory of a packed model; the command that shares a "
                         "device over TCP is `tritstream share-device`")
    host, port = listen_address(listen, _ADDRESS)
    _check_key(host, api_key)
    checkpoint = PackedCheckpoint(packed)
    bits = bits_by_name(checkpoint, activation_bits, activation_bits_for or [])
    with ExitStack() as stack:
        listener = stack.enter_context(closing(listen_on(host, port)))
        made, info = open_backend(stack, backend, DeviceConfig(lanes, columns), bits, device)
        count = parallel or _answers(info.columns if info else columns, bits)
        service = _open_service(stack, checkpoint, made, count, name or packed.resolve().name,
                                api_key, host)
        print(f"serving {service.name} on http://{as_text(listener)}/v1, {count} answers at a time",
              flush=True)
        _run(service, listener)
    print("stopped")


def _check_key(host: str, key: str | None) -> None:
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
        raise ValueError("the key must have printable ASCII characters, without a space at its "
                         "ends")
    if key is None and not is_loopback(host):
        raise ValueError(f"other machines reach {host}, so requests must have a key: set "
                         "TRITSTREAM_API_KEY or --api-key, or listen on 127.0.0.1")


def _answers(columns: int, bits: Mapping[str, int]) -> int:
    """Return the number of answers whose vectors fill a pass: 16 bits take two columns each."""
    return max(1, columns // (2 if 16 in bits.values() else 1))


def _open_service(
    stack: ExitStack, checkpoint: PackedCheckpoint, backend: "Backend", parallel: int, name: str,
    key: str | None, host: str,
) -> "Service":
    """Load the model, and start the engine; ``stack`` stops it."""
    from tritstream.host.model.generation import generate_text
    from tritstream.host.model.load import load_tokenizer
    from tritstream.host.serving.engine import Engine
    from tritstream.host.serving.service import Service
    from tritstream.host.serving.sharing import SharedBackend

    tokenizer, shared = load_tokenizer(checkpoint.path), SharedBackend(backend)
    model = open_model(checkpoint, shared)
    # An error of the settings or of the device must come before the first request.
    tried = generate_text(model, tokenizer, [0], 1, emit=lambda text: None,
                          take_cost=shared.take_cost)
    tell_unused(checkpoint.path, tried.unused)
    engine = stack.enter_context(Engine(model, tokenizer, parallel))
    # Only a server without a key is open to every page of a browser on this machine.
    hosts = None if key else frozenset({"localhost", "127.0.0.1", "::1", host})
    return Service(name, model, tokenizer, engine, key, hosts)


def _run(service: "Service", listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM."""
    import uvicorn

    from tritstream.host.serving.app import make_app

    server = uvicorn.Server(uvicorn.Config(
        make_app(service), log_level="warning", access_log=False,
        timeout_graceful_shutdown=_GRACE))
    # uvicorn sends itself the signal again when it has stopped.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
