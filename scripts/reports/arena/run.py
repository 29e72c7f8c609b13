"""Command ``tritstream dev arena run``: makes the contestants, evaluates them, shows the table."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.checkpoints.safetensors_reader import load_json
from tritstream.golden.open_source import open_source
from tritstream.scripts.console import Failure, progress, reports_errors, write_json
from tritstream.scripts.corpus import read_text
from tritstream.scripts.evaluation.report import texts_of
from tritstream.scripts.options import Json
from tritstream.scripts.reports.arena.contestants import CONTESTANTS, Contestant, Place, trits_of
from tritstream.scripts.reports.arena.table import show
from tritstream.scripts.reports.bench.measuring import circumstances, report_to, run_measured
from tritstream.scripts.weights.calibrate import TOKENS
from tritstream.scripts.weights.matrix_figures import fingerprint

__all__ = ["run"]

_PACKAGES = ("tritstream", "torch", "transformers", "gguf", "numpy")
#: Figures of `tritstream eval` that a row keeps per text.
_KEPT = ("kl", "same_top", "log_ratio", "perplexity")


@reports_errors
def run(
    base: Annotated[Path, typer.Argument(help="Unquantized model: a directory.")],
    text: Annotated[list[Path], typer.Option(help="Text to evaluate on. May be repeated.")],
    calibration: Annotated[Path, typer.Option(
        help="Text for calibrations and importance matrices.")],
    library: Annotated[Path | None, typer.Option(
        "--llama-cpp", metavar="DIR", help="Directory with libllama of llama.cpp, such as that of "
        "`npm pack @node-llama-cpp/linux-x64`.")] = None,
    only: Annotated[list[str] | None, typer.Option(
        metavar="GLOB", help=f"Names of the rows to measure: {', '.join(CONTESTANTS)}. May be "
        "repeated.", show_default="all")] = None,
    row: Annotated[list[str] | None, typer.Option(
        metavar="NAME=OPTIONS", help="Measure `tritstream quantize BASE OPTIONS`, too; {text} is "
        "the calibration text. May be repeated.")] = None,
    again: Annotated[bool, typer.Option(
        "--again", help="Measure the named rows again, such as with a newer method.")] = False,
    ctx: Annotated[int, typer.Option(help="Tokens per chunk, as of `tritstream eval`.")] = 512,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to score per text.")] = 1024,
    calibration_tokens: Annotated[int, typer.Option(
        min=1, help="Tokens to read from the calibration text.")] = TOKENS,
    together: Annotated[int, typer.Option(
        min=1, help="Models to evaluate together, which are in memory together.")] = 6,
    output: Annotated[Path, typer.Option(
        "--output", "-o", help="Directory of the rows, and of the report arena.json. An "
                               "interrupted run resumes from it.")] = Path("build/arena"),
    as_json: Json = False,
):
    """Quantize a base in all ways, evaluate each on texts, and print bits and quality.

    The stored bits are those of all linear layers, with tables, scales and padding. Embedding and
    head are those of the base in every row.
    """
    named = {**CONTESTANTS, **trits_of(row or [])}
    chosen = _chosen(named, [*(only or []), *(name for name in trits_of(row or []) if only)])
    place = Place(base, calibration, calibration_tokens, library, output / "made")
    settings = _settings(place, text, ctx, tokens)
    rows = output / "rows"
    _check_settings(output / "settings.json", settings)
    missing = [name for name in chosen if again or not (rows / f"{name}.json").is_file()]
    place.kept.mkdir(parents=True, exist_ok=True)
    with progress("contestants", len(missing)) as advance:
        for first in range(0, len(missing), together):
            names = missing[first:first + together]
            made = {}
            for name in names:
                advance(0, name)
                made[name] = _make(named[name], place, place.kept / name, again)
            for name, found in _evaluated(list(made), place, text, settings, output):
                contestant = named[name]
                write_json(rows / f"{name}.json", {
                    "name": name, "program": contestant.program, "options": contestant.options,
                    **made[name], **found})
                shutil.rmtree(place.kept / name)
                advance(1)
    report = {**circumstances(_PACKAGES), **settings, "base": _base(output),
              "rows": sorted((load_json(path) for path in rows.glob("*.json")),
                             key=lambda one: one["stored_bits"])}
    report_to(report, output / "arena.json", as_json, show)


def _chosen(named: Mapping[str, Contestant], globs: Sequence[str]) -> list[str]:
    """Return the names that match; raise for a glob that matches none."""
    for glob in globs:
        if not any(fnmatch(name, glob) for name in named):
            raise Failure(f"--only {glob} matches no row; the rows are {', '.join(named)}")
    return [name for name in named if not globs or any(fnmatch(name, glob) for glob in globs)]


def _settings(place: Place, texts: Sequence[Path], ctx: int, tokens: int) -> dict:
    """Return what all rows must share."""
    names = [path.stem for path in texts]
    if len(set(names)) < len(names):
        raise Failure(f"texts must have different names, not {', '.join(names)}")
    calibration = read_text(place.text)
    return {"model": fingerprint(open_source(place.base)), "context": ctx, "tokens": tokens,
            "texts": {path.stem: read_text(path).sha256 for path in texts},
            "calibration": {**calibration.summary, "tokens": place.tokens}}


def _check_settings(path: Path, settings: dict) -> None:
    """Keep the settings of the first run; raise if a later one has other settings."""
    if not path.is_file():
        write_json(path, settings)
    elif different := [name for name, value in load_json(path).items() if settings[name] != value]:
        raise Failure(f"{path.parent}: its rows were measured with another "
                      f"{' and another '.join(different)}; give another --output")


def _make(contestant: Contestant, place: Place, output: Path, again: bool) -> dict:
    """Make a model unless an interrupted run has made it; return what its row says of it."""
    record = output.with_name(f"{output.name}.json")
    if output.is_dir() and record.is_file() and not again:
        return load_json(record)
    if output.is_dir():
        shutil.rmtree(output)
    made = contestant.make(place, output)
    write_json(record, made)
    return made


def _evaluated(
    names: Sequence[str], place: Place, texts: Sequence[Path], settings: dict, output: Path,
) -> Iterator[tuple[str, dict]]:
    """Evaluate models together; yield for each its squared error, and figures by text."""
    models = {name: str(place.kept / name) for name in names}
    done = run_measured([
        "eval", *models.values(), "--base", place.base,
        *(option for path in texts for option in ("--text", path)), "--ctx",
        str(settings["context"]), "--tokens", str(settings["tokens"]), "-o", output / "eval"])
    if done.status:
        raise Failure(f"eval: {done.error}")
    reports = texts_of(load_json(output / "eval" / "report.json"))
    for name, path in models.items():
        found = [next(one for one in reversed(report["models"]) if one["path"] == path)
                 for report in reports]
        yield name, {"squared_error": found[0]["squared_error"], "texts": {
            text.stem: {figure: one[figure] for figure in _KEPT}
            for text, one in zip(texts, found, strict=True)}}


def _base(output: Path) -> dict:
    """Return the perplexity of the base by text, and the number of scored tokens."""
    reports = texts_of(load_json(output / "eval" / "report.json"))
    return {"scored_tokens": reports[0]["scored_tokens"],
            "perplexity": {Path(report["corpus"]["name"]).stem: report["base"]["perplexity"]
                           for report in reports}}
