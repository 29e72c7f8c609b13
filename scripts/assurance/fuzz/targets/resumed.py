"""Files that a resumed job reads: journals, calibrations, activations, scores."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
from safetensors.numpy import save

from tritstream.golden.jobs.journal import Journal
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.verify import verify
from tritstream.golden.quantizers.error_feedback import feed_back
from tritstream.golden.quantizers.moments import Moment, Moments, write_moments
from tritstream.golden.quantizers.registry import method_of
from tritstream.scripts.assurance.fuzz.models import source_files, write_source
from tritstream.scripts.assurance.fuzz.mutation import changed_bytes, changed_json
from tritstream.scripts.assurance.fuzz.safetensors_file import changed_safetensors
from tritstream.scripts.assurance.fuzz.target import Broken, Target
from tritstream.scripts.evaluation.store import Scores
from tritstream.scripts.running.activations import read_activations

__all__ = ["ACTIVATIONS", "JOURNAL", "MOMENTS", "SCORES"]

_DEPTH, _SHAPE = 2, (6, 33)
_METHOD = method_of("tritllm-v2", "numpy")


class _Killed(Exception):
    """Ends a job, as a signal would."""


def _begun(folder: Path, tensors: int) -> tuple[Path, Path, Path]:
    """Return source, output and journal of a packing job that ended after ``tensors`` tensors."""
    source = write_source(folder / "source", source_files("F32"))
    left = tensors

    def count(_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _Killed

    with suppress(_Killed):
        pack_checkpoint(source, folder / "out", _DEPTH, method=_METHOD, progress=count)
    return source, folder / "out", folder / "out.partial" / ".journal.jsonl"


def _journal_seeds() -> list[bytes]:
    """Return the lines of a journal without the first line, which has the times of files."""
    with tempfile.TemporaryDirectory() as folder:
        journal = _begun(Path(folder), 3)[2]
        lines = journal.read_bytes().splitlines(keepends=True)
    return [b"".join(lines[1:count]) for count in range(1, len(lines) + 1)]


def _journal_changed(data: bytes, rng: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if not lines or rng.random() < 0.4:
        return changed_bytes(data, rng)
    at = rng.randrange(len(lines))
    try:
        lines[at] = changed_json(json.loads(lines[at]), rng) + b"\n"
    except (ValueError, RecursionError):
        lines[at] = changed_bytes(lines[at], rng)
    return b"".join(lines)


def _run_journal(data: bytes, folder: Path) -> None:
    source, out, journal = _begun(folder, 2)
    first, *written = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(first + data)
    with Journal(journal) as opened:
        parameters = opened.lines[0]
        # A line for a tensor that this job has not written cannot be checked.
        known = set(opened.begin(parameters))
    if not known <= {json.loads(line)[0] for line in written}:
        return
    pack_checkpoint(source, out, _DEPTH, method=_METHOD)
    errors = [one for one in verify(out, source) if one.kind == "error"]
    if errors:
        raise Broken(f"{errors[0].tensor}: {errors[0].message}")


def _moments_seeds() -> list[bytes]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, _SHAPE[1])).astype(np.float32)
    moment = Moment(x.T @ x / 40, np.ones(_SHAPE[0], np.float32))
    with tempfile.TemporaryDirectory() as folder:
        write_moments(Path(folder) / "m", {"l.0.down_proj": moment}, {"text": "t", "tokens": 40})
        return [(Path(folder) / "m").read_bytes()]


def _run_moments(data: bytes, folder: Path) -> None:
    (folder / "m").write_bytes(data)
    moments = Moments(folder / "m")
    weights = np.random.default_rng(1).standard_normal(_SHAPE).astype(np.float32)
    feed_back(weights, _DEPTH, moments.of("l.0.down_proj", _SHAPE), "l.0.down_proj")


def _activations_seeds() -> list[bytes]:
    x = np.random.default_rng(0).standard_normal((3, 20))
    return [save({"a": x.astype(dtype), "b": x.astype(np.float32)})
            for dtype in (np.float16, np.float32, np.float64)]


def _run_activations(data: bytes, folder: Path) -> None:
    (folder / "x").write_bytes(data)
    x = read_activations(folder / "x", "a", 20)
    if x.dtype != np.float32 or not np.isfinite(x).all():
        raise Broken("activations that are not finite float32")


def _scores_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        scores = Scores(Path(folder), {})
        scores.write(0, {"nll": np.ones(5), "seconds": np.ones(1)})
        return [(scores.path / "00000.safetensors").read_bytes()]


def _run_scores(data: bytes, folder: Path) -> None:
    scores = Scores(folder, {"model": "x"})
    scores.write(0, {"nll": np.ones(5), "seconds": np.ones(1)})
    (scores.path / "00001.safetensors").write_bytes(data)
    found = scores.read(2)
    if found.keys() != {"nll", "seconds"} or not all(
            values.dtype == np.float64 and np.isfinite(values).all() for values in found.values()):
        raise Broken("scores that are not finite float64")


JOURNAL = Target("journals of a job that resumes: pack, verify against the source",
                 _journal_seeds, _run_journal, _journal_changed, seconds=10)
MOMENTS = Target("calibrations: read, quantize with them", _moments_seeds, _run_moments,
                 changed_safetensors)
ACTIVATIONS = Target("files of activations", _activations_seeds, _run_activations,
                     changed_safetensors)
SCORES = Target("scores that an evaluation has kept", _scores_seeds, _run_scores,
                changed_safetensors)
