"""Programs in processes of their own, each forked from a process that has the imports done.

To start Python and import numpy takes a third of a second, and transformers five. What a program
does after its imports is the same: it has arguments, streams, signals and an exit code of its own.
Tests of the imports and of the start itself start Python: `golden_helpers.run_python`.
"""

import atexit
import gc
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path

__all__ = ["COMMANDS", "GOLDEN", "TORCH", "run_forked"]

#: Modules to import before: to pack, to export and to import; and for all commands.
GOLDEN = ("tritstream.golden.packed.pack", "tritstream.golden.packed.export",
          "tritstream.golden.packed.verify", "tritstream.golden.kernels.numba_engine",
          "tritstream.golden.recover.import_checkpoint")
COMMANDS = (*GOLDEN, "tritstream.scripts.cli", "tritstream.host.model.load")
#: What transformers imports and takes longest, for tests of how it is imported itself.
TORCH = ("torch.distributed.tensor", "torch._dynamo.aot_compile", "jinja2", "tokenizers")
#: Seconds after which a program hangs.
_HANG = 1800


def run_forked(code, *arguments, modules=GOLDEN):
    """Run a program, in whose process the modules are imported; returns the finished process."""
    connection, arguments = _connection(modules), list(map(str, arguments))
    request = json.dumps([code, arguments, str(Path.cwd()), dict(os.environ)]).encode() + b"\n"
    pipes, others = zip(os.pipe(), os.pipe(), strict=True)
    with Path(os.devnull).open("rb") as nothing:
        socket.send_fds(connection, [request[:1]], [nothing.fileno(), *others])
    connection.sendall(request[1:])
    for end in others:
        os.close(end)
    try:
        texts = _texts(pipes)
        return subprocess.CompletedProcess(arguments, int(_line(connection)), *texts)
    except TimeoutError:
        # The next program must not get what this one says later.
        connection.close()
        _connection.cache_clear()
        raise


@cache
def _connection(modules):
    """The connection to a process that forks. It ends with this process.

    It has one thread, because a fork copies no others.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(_HANG)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-W", "error", __file__, str(theirs.fileno()), *modules],
            pass_fds=[theirs.fileno()], env={**os.environ, "OMP_NUM_THREADS": "1"})

    @atexit.register
    def end():
        ours.close()
        process.wait()

    return ours


def _texts(pipes):
    """What comes through pipes until they are closed."""
    found = dict.fromkeys(pipes, b"")
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            if not (ready := selector.select(_HANG)):
                raise TimeoutError(f"the program hangs; it has said {found}")
            for pipe, _ in ready:
                more = os.read(pipe.fd, 1 << 16)
                found[pipe.fd] += more
                if not more:
                    selector.unregister(pipe.fd)
                    os.close(pipe.fd)
    return [text.decode() for text in found.values()]


def _line(connection):
    found = b""
    while not found.endswith(b"\n"):
        if not (more := connection.recv(1 << 16)):
            raise EOFError("the process that forks has ended")
        found += more
    return found


def _serve(connection, modules):
    """Import the modules; then fork for each request, and run its program there."""
    for name in modules:
        import_module(name)
    gc.freeze()         # so that a collection in a child does not copy all memory
    while first := (received := socket.recv_fds(connection, 1, 3))[0]:
        request, streams = json.loads(first + _line(connection)), received[1]
        if child := os.fork():
            for stream in streams:
                os.close(stream)
            ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            connection.sendall(f"{ended}\n".encode())
        else:
            connection.close()
            _run(streams, *request)


def _run(streams, code, arguments, cwd, environment):
    """Run a program and end as Python does, except that modules are not torn down one by one."""
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["-c", *arguments]
    status = 1
    try:
        exec(code, {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        else:
            status = end.code or 0
    except BaseException:
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        _serve(parent, sys.argv[2:])
