"""The command that writes conformance vectors, or compares a directory of them."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.write_errors import writing
from tritstream.host.open_device import open_transport
from tritstream.scripts.assurance.vectors.replay import replay
from tritstream.scripts.assurance.vectors.vector_set import (
    MANIFEST,
    build,
    chosen,
    differences,
    sessions,
)
from tritstream.scripts.console import (
    Failure,
    print_json,
    progress,
    reports_errors,
    table,
    write_bytes,
)
from tritstream.scripts.options import Json

__all__ = ["vectors"]


@reports_errors
def vectors(
    output: Annotated[Path | None, typer.Option(
        "--output", "-o", help="Directory to write.")] = None,
    check: Annotated[Path | None, typer.Option(
        help="Compare this directory with the vectors of this version.")] = None,
    device: Annotated[str | None, typer.Option(
        help="Play the sessions on a device: tcp://HOST:PORT, serial:/dev/ttyUSB0, or "
             "sim:lanes=8,columns=2.")] = None,
    lanes: Annotated[list[int] | None, typer.Option(
        "--lanes", "-L", help="Number of lanes. May be repeated.", show_default="all")] = None,
    depth: Annotated[list[int] | None, typer.Option(
        "--depth", "-d", help="Trits per weight. May be repeated.", show_default="all")] = None,
    as_json: Json = False,
):
    """Write, check or replay conformance vectors for other implementations.

    The vectors cover the file format and the protocol, and are the same on every machine.
    docs/conformance.md describes their use.
    """
    if [output, check, device].count(None) != 2:
        raise ValueError("give one of a directory to make (-o DIR), one to compare (--check DIR), "
                         "and a device to try (--device SPEC)")
    if device:
        _try(device, lanes or [], depth or [], as_json)
    elif check:
        _check(check, lanes or [], depth or [], as_json)
    elif output:
        _make(output, lanes or [], depth or [], as_json)


def _make(output: Path, lanes: list[int], depths: list[int], as_json: bool) -> None:
    chosen(lanes, depths)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output}: exists already; compare it with --check, or choose another")
    files = build(lanes, depths)
    _write(output, files)
    report = {"output": str(output), "files": len(files), "bytes": sum(map(len, files.values()))}
    if as_json:
        print_json(report)
    else:
        print(f"{report['files']} files, {report['bytes']} bytes in {output}")


def _write(output: Path, files: dict[str, bytes]) -> None:
    """Write all files to a directory that appears complete or not at all."""
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{output.name}.", dir=output.absolute().parent))
        try:
            folder.chmod(0o755)
            with progress("writing", len(files)) as advance:
                for path, data in files.items():
                    write_bytes(folder / path, data)
                    advance(1, path)
            folder.replace(output)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _check(folder: Path, lanes: list[int], depths: list[int], as_json: bool) -> None:
    described = _described(folder)
    found = differences(folder, build(lanes or described["lanes"], depths or described["depths"]))
    report = {"checked": str(folder),
              "differences": [{"path": path, "fault": fault} for path, fault in found]}
    if as_json:
        print_json(report)
    elif found:
        table("", ["file", "fault"], [list(each) for each in found])
    if found:
        raise Failure(f"{folder}: {len(found)} files are not those of this version")
    if not as_json:
        print(f"{folder}: all files are those of this version")


def _try(spec: str, lanes: list[int], depths: list[int], as_json: bool) -> None:
    if lanes:
        raise ValueError("a device has its own lanes; leave --lanes out")
    _, sorted_depths = chosen([], depths)
    with progress("playing", len(sessions(1, sorted_depths))) as advance:
        report = asyncio.run(_play(spec, sorted_depths, advance))
    if as_json:
        print_json(report)
    else:
        table("", ["session", "responses"], [
            *([name, fault or "equal"] for name, fault in report["sessions"].items()),
            *([name, f"left out: {lacks}"] for name, lacks in report["left_out"].items())])
    faults = [f"{name}: {fault}" for name, fault in report["sessions"].items() if fault]
    if faults:
        raise Failure(f"{spec}: {faults[0]}")


async def _play(spec: str, depths: tuple[int, ...], advance: Callable) -> dict:
    # A transport is closed in the event loop that it was used in.
    with closing(open_transport(spec)) as transport:
        return await replay(transport, depths, advance)


def _described(folder: Path) -> dict[str, list[int]]:
    """Lane counts and depths that a manifest names."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder}: has no {MANIFEST}; give a directory that -o made")
    try:
        manifest = json.loads(path.read_bytes())
        found = {name: [int(each) for each in manifest[name]] for name in ("lanes", "depths")}
        chosen(**found)
    except (KeyError, RecursionError, TypeError, ValueError):
        raise ValueError(f"{path}: does not name lanes and depths; give a directory that -o "
                         "made") from None
    return found
