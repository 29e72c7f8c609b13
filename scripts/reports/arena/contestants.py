"""Contestants of the arena: quantizers with their settings, and how each makes a model."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.source import Source
from tritstream.golden.open_source import open_source
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.scripts.console import Failure
from tritstream.scripts.reports.arena.container import (
    read_quantized,
    ready_imatrix,
    write_container,
)
from tritstream.scripts.reports.arena.imatrix import imatrix_file
from tritstream.scripts.reports.arena.llama_cpp import FILE_TYPES, LlamaCpp
from tritstream.scripts.reports.bench.measuring import run_measured
from tritstream.scripts.weights.matrix_figures import figures

__all__ = ["CONTESTANTS", "Contestant", "Ggml", "Place", "Trits", "trits_of"]


@dataclass(frozen=True)
class Place:
    """What contestants are made from.

    Members
    -------
    base : Path
        The unquantized model.
    text : Path
        Text for calibrations and importance matrices.
    tokens : int
        Number of tokens that they read.
    library : Path or None
        Directory of llama.cpp's library.
    kept : Path
        Directory for files that several contestants share.
    """

    base:    Path
    text:    Path
    tokens:  int
    library: Path | None
    kept:    Path


@dataclass(frozen=True)
class Trits:
    """Contestant that `tritstream quantize` makes, with these options. {text} is the calibration.
    """

    options: str
    program: str = "tritstream"

    def make(self, place: Place, output: Path) -> dict:
        """Write the packed model, and return its stored bits per weight and CPU seconds."""
        options = [option.format(text=place.text) for option in shlex.split(self.options)]
        if "--calibration" in options:
            options += ["--calibration-tokens", str(place.tokens)]
        done = run_measured(["quantize", place.base, "-o", output, *options])
        if done.status:
            raise Failure(f"quantize {shlex.join(options)}: {done.error}")
        return {"stored_bits": figures(PackedCheckpoint(output))["stored_bits"],
                "cpu_seconds": done.cpu}


@dataclass(frozen=True)
class Ggml:
    """Contestant that llama.cpp's quantizer makes.

    Members
    -------
    file_type : str
        Mixture of types, one of :data:`.FILE_TYPES`.
    imatrix : bool
        Whether it gets an importance matrix from the calibration text.
    folded : bool
        Whether rows are joined to a multiple of 256 weights, so that no type falls back.
    """

    file_type: str
    imatrix:   bool = False
    folded:    bool = False
    program:   str = field(default="llama.cpp", init=False)

    @property
    def options(self) -> str:
        """Settings in words."""
        return ", ".join([self.file_type, *["imatrix"] * self.imatrix,
                          *["joined rows"] * self.folded])

    def make(self, place: Place, output: Path) -> dict:
        """Write the dequantized model, and return stored bits per weight and shares of types."""
        if place.library is None:
            raise Failure(f"{self.file_type} needs llama.cpp's library: give --llama-cpp, or leave "
                          "its rows out by --only")
        base = open_source(place.base)
        importance = _importance(base, place) if self.imatrix else None
        with TemporaryDirectory(dir=place.kept) as work:
            container, result = Path(work) / "base.gguf", Path(work) / "quantized.gguf"
            write_container(base, container, folded=self.folded)
            LlamaCpp(place.library).quantize(
                container, result, self.file_type,
                importance and ready_imatrix(base, importance, folded=self.folded))
            found = read_quantized(base, result)
            convert(found.source, output)
        return {"stored_bits": found.stored_bits, "types": found.types}


Contestant = Trits | Ggml


def _importance(base: Source, place: Place) -> dict[str, np.ndarray]:
    return imatrix_file(base, place.text, place.tokens, place.kept / "imatrix.safetensors")


def trits_of(rows: list[str]) -> dict[str, Contestant]:
    """Return contestants given as NAME=OPTIONS of `tritstream quantize`."""
    found: dict[str, Contestant] = {}
    for row in rows:
        name, mark, options = row.partition("=")
        if not mark or not name or "/" in name:
            raise ValueError(f"--row must be NAME=OPTIONS of `tritstream quantize`, not {row!r}")
        found[name] = Trits(options)
    return found


def _ours() -> dict[str, Contestant]:
    found: dict[str, Contestant] = {}
    for depth in (2, 3, 4):
        found |= {f"tritllm-v2-d{depth}": Trits(f"-d {depth} --method tritllm-v2"),
                  f"search-d{depth}": Trits(f"-d {depth}"),
                  f"search-d{depth}-g32": Trits(f"-d {depth} --group 32"),
                  f"calibrated-d{depth}": Trits(f"-d {depth} --calibration {{text}}")}
    return found | {f"calibrated-b{bits}": Trits(f"--budget {bits} --calibration {{text}}")
                    for bits in (3.0, 4.2, 5.67)}


def _theirs() -> dict[str, Contestant]:
    """Return llama.cpp's types: as they are, and joined; IQ3_XXS does not go without an imatrix."""
    return {f"{name}{'-joined' * folded}{'-imatrix' * imatrix}": Ggml(name, imatrix, folded)
            for name in FILE_TYPES for folded in (False, True) for imatrix in (False, True)
            if imatrix or name != "IQ3_XXS"}


#: Contestants by name.
CONTESTANTS: Mapping[str, Contestant] = {**_ours(), **_theirs()}
