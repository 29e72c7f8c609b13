"""The command ``tritstream dev fuzz``."""

import tempfile
import traceback
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from tritstream.scripts.assurance.fuzz.engine import ENGINES
from tritstream.scripts.assurance.fuzz.report import merged, read_report, show, write_report
from tritstream.scripts.assurance.fuzz.supervise import fuzz_target
from tritstream.scripts.assurance.fuzz.targets import NAMES, load_target
from tritstream.scripts.assurance.fuzz.watch import Fault, Watch
from tritstream.scripts.console import Failure, console, print_json, progress, reports_errors
from tritstream.scripts.options import Json

__all__ = ["fuzz"]


@reports_errors
def fuzz(
    targets: Annotated[list[str] | None, typer.Argument(
        help=f"Targets to fuzz: {', '.join(NAMES)}.", show_default="all")] = None,
    seconds: Annotated[float, typer.Option(help="Seconds per target.")] = 60,
    seed: Annotated[int, typer.Option(
        min=0, max=1 << 31, help="Random seed of all inputs.")] = 1,
    engine: Annotated[str | None, typer.Option(
        help="Source of inputs: atheris, guided by coverage (extra `fuzz`), or random.",
        show_default="atheris if it is installed")] = None,
    most: Annotated[int | None, typer.Option(
        help="Number of inputs per target of the engine random, which makes the run "
             "reproducible.")] = None,
    corpus: Annotated[Path, typer.Option(
        help="Directory of inputs, from which the next run continues.")] = Path("build/fuzz"),
    output: Annotated[Path | None, typer.Option(
        "--output", "-o", help="Add the counts of this run to this JSON report.")] = None,
    input_file: Annotated[Path | None, typer.Option(
        "--input", help="Run only this input of a target, and report its outcome.")] = None,
    as_json: Json = False,
):
    """Fuzz all parsers of files and responses for hangs, memory use and undocumented errors."""
    names = targets or list(NAMES)
    about = {name: load_target(name).about for name in names}
    if input_file:
        return _reproduce(names, input_file)
    engine = _engine(engine)
    found = read_report(output)
    with progress("fuzzing", len(names)) as advance:
        for number, name in enumerate(names):
            advance(0, name)
            counts = fuzz_target(engine, name, corpus / name, seconds, seed + 1000 * number, most)
            found[name] = merged(found, name, about[name], engine, counts)
            if output:
                write_report(output, found)
            advance(1, name)
    shown = {name: found[name] for name in names}
    print_json({"targets": shown}) if as_json else show(shown)
    _show(shown)


def _engine(name: str | None) -> str:
    there = find_spec("atheris") is not None
    if name is None:
        return "atheris" if there else "random"
    if name not in ENGINES:
        raise ValueError(f"{name}: engine must be one of {', '.join(ENGINES)}")
    if name == "atheris" and not there:
        raise ValueError("engine atheris needs its package: pip install 'tritstream[fuzz]', or "
                         "take engine random")
    return name


def _reproduce(names: list[str], path: Path) -> None:
    if len(names) != 1:
        raise ValueError("an input is of one target: give its name")
    target = load_target(names[0])
    with tempfile.TemporaryDirectory(prefix="tritstream-fuzz-") as folder:
        try:
            outcome = Watch(target, Path(folder) / "input").run(path.read_bytes())
        except Fault as fault:
            traceback.print_exception(fault.__cause__ or fault, file=console.file)
            raise Failure(f"{names[0]}: {fault.kind} {fault.detail}".strip()) from None
    print(f"{names[0]}: {outcome}")


def _show(targets: dict) -> None:
    """Print how to reproduce each fault; raises :class:`Failure` if there is one."""
    count = 0
    for name, one in targets.items():
        for fault, found in one["faults"].items():
            count += 1
            console.print(f"{name}: {fault} ({found['times']} times): tritstream dev fuzz {name} "
                          f"--input {found['input']}", markup=False, soft_wrap=True)
    if count:
        raise Failure(f"{count} faults")
