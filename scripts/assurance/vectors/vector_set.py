"""The complete set: files by name, their manifest, and comparison with a directory."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from tritstream.golden.checkpoints.source import SINGLE
from tritstream.golden.fixed_point import MAX_DEPTH, half_range
from tritstream.golden.packed.metadata import FORMAT_VERSION
from tritstream.hw.config import LANE_COUNTS
from tritstream.hw.protocol import VERSION
from tritstream.scripts.assurance.vectors.checkpoints import (
    digit_cases,
    digits_checkpoint,
    expert_cases,
    experts_checkpoint,
    form_cases,
    forms_checkpoint,
    plain_checkpoint,
)
from tritstream.scripts.assurance.vectors.guide import GUIDE, READING
from tritstream.scripts.assurance.vectors.matrices import (
    Case,
    blocks_case,
    longest_case,
    small_cases,
)
from tritstream.scripts.assurance.vectors.products import (
    activations_json,
    as_json,
    form_json,
    product_json,
    trits_json,
)
from tritstream.scripts.assurance.vectors.refusals import errors_session, hunts_session
from tritstream.scripts.assurance.vectors.session import Product, Session
from tritstream.scripts.assurance.vectors.sessions import (
    basics,
    columns_session,
    longest_session,
    products_session,
)

__all__ = ["DEPTHS", "MANIFEST", "VECTORS_VERSION", "Difference", "build", "chosen", "differences",
           "sessions"]

#: Incremented whenever a byte of the vectors changes.
VECTORS_VERSION = 5
MANIFEST = "manifest.json"
DEPTHS = tuple(range(1, MAX_DEPTH + 1))
#: Lanes and depth of the session with the longest vector, whose words are many.
_LONGEST = (1, 4)


class Difference(NamedTuple):
    """A wrong file with its fault: ``missing``, ``differs`` or ``unknown``."""

    path:  str
    fault: str


def chosen(lanes: Sequence[int], depths: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return lane counts and depths in order; an empty sequence stands for all.

    Raises :class:`ValueError` for an unknown lane count or depth.
    """
    for depth in depths:
        half_range(depth)
    for count in lanes:
        if count not in LANE_COUNTS:
            raise ValueError(f"lanes must be one of {', '.join(map(str, LANE_COUNTS))}, "
                             f"not {count}")
    return (tuple(sorted(set(lanes or LANE_COUNTS))), tuple(sorted(set(depths or DEPTHS))))


def build(lanes: Sequence[int] = (), depths: Sequence[int] = ()) -> dict[str, bytes]:
    """Return the files by path, the manifest last.

    A subset of lane counts or depths has the same files as the complete set, except for the packed
    checkpoints, which hold the matrices of all chosen lane counts.
    """
    lanes, depths = chosen(lanes, depths)
    files = dict((*_common(), *_packed(lanes, depths), *_frames(lanes, depths)))
    files[MANIFEST] = as_json(_manifest(files, lanes, depths))
    return files


def differences(folder: Path, files: dict[str, bytes]) -> list[Difference]:
    """Return the files of a directory that are wrong, sorted by path."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    found = [Difference(path, "unknown") for path in there - files.keys()]
    found += [Difference(path, "missing") for path in files.keys() - there]
    found += [Difference(path, "differs") for path in files.keys() & there
              if (folder / path).read_bytes() != files[path]]
    return sorted(found)


def _common() -> Iterator[tuple[str, bytes]]:
    yield "trits.json", as_json(trits_json())
    yield "activations.json", as_json(activations_json())
    for folder, cases, checkpoint in (
            ("packed/forms", form_cases(), forms_checkpoint),
            ("packed/digits", digit_cases(), digits_checkpoint)):
        for name, data in checkpoint(cases).items():
            yield f"{folder}/{name}", data
        for case in cases:
            yield f"weights/{case.name}.json", as_json(form_json(case, folder))
        for name, data in checkpoint(cases, before=False).items():
            yield f"{folder}-renamed/{name}", data

    experts = expert_cases()
    for name, data in experts_checkpoint(experts).items():
        yield f"packed/experts/{name}", data
    for case in experts:
        yield f"weights/{case.name}.json", as_json(form_json(case, "packed/experts"))


def _packed(lanes, depths) -> Iterator[tuple[str, bytes]]:
    for depth in depths:
        cases = [*small_cases(depth), *(blocks_case(depth, count) for count in lanes)]
        cases += [longest_case()] if (lanes[0], depth) == _LONGEST else []
        for name, data in plain_checkpoint(cases).items():
            yield f"packed/d{depth}/{name}", data
        for case in cases:
            yield (f"products/d{depth}/{case.name}.json",
                   as_json(product_json(case, f"packed/d{depth}/{SINGLE}")))


def _frames(lanes, depths) -> Iterator[tuple[str, bytes]]:
    for count in lanes:
        for depth in depths:
            for case in _streamed(count, depth):
                yield f"words/L{count}/d{depth}-{case.name}.bin", Product(case, count).words
        for name, make in sessions(count, depths).items():
            session = make()
            yield f"frames/L{count}/{name}.json", as_json(session.json())
            yield f"frames/L{count}/{name}.requests.bin", bytes(session.requests)
            yield f"frames/L{count}/{name}.answers.bin", bytes(session.answers)


def _streamed(lanes: int, depth: int) -> list[Case]:
    """Return the matrices whose word streams are written for a lane count."""
    longest = [longest_case()] if (lanes, depth) == _LONGEST else []
    return [*small_cases(depth), blocks_case(depth, lanes), *longest]


def sessions(lanes: int, depths: Sequence[int] = DEPTHS) -> dict[str, Callable[[], Session]]:
    """Return a function for each session of a lane count, by name."""
    made: dict[str, Callable[[], Session]]
    made = {name: partial(make, lanes) for name, make in
            (("basics", basics), ("errors", errors_session), ("hunts", hunts_session))}
    for depth in depths:
        made[f"products-d{depth}"] = partial(products_session, lanes, depth)
        made[f"columns-d{depth}"] = partial(columns_session, lanes, depth)
        if (lanes, depth) == _LONGEST:
            made["longest"] = partial(longest_session, lanes)
    return made


def _manifest(files: dict[str, bytes], lanes, depths) -> dict:
    return {
        "vectors_version": VECTORS_VERSION, "protocol_version": VERSION,
        "format_versions": list(range(1, FORMAT_VERSION + 1)),
        "lanes": list(lanes), "depths": list(depths), "reading": READING, "kinds": GUIDE,
        "cases": {case.name: case.about
                  for case in (*small_cases(depths[0]), *(blocks_case(depths[0], count)
                                                          for count in lanes), longest_case())},
        "files": {path: sha256(data).hexdigest() for path, data in sorted(files.items())},
    }
