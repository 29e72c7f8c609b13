"""Counts of all runs so far, in a JSON file, and as a table."""

from dataclasses import asdict
from pathlib import Path

from tritstream.golden.checkpoints.safetensors_reader import load_json
from tritstream.scripts.assurance.fuzz.supervise import Counts, happens_again
from tritstream.scripts.console import table, write_json

__all__ = ["merged", "read_report", "show", "write_report"]

_HEADER = ["target", "engine", "executions", "seconds", "read", "refused", "places of refusal",
           "branches", "fixed", "faults"]


def read_report(path: Path | None) -> dict:
    """Return the counts of earlier runs, by target."""
    return load_json(path)["targets"] if path and path.is_file() else {}


def _part(name: str, faults: dict) -> tuple[dict, dict]:
    """Return the earlier faults that still occur or have no kept input, and the fixed ones."""
    left: dict[str, dict] = {}
    fixed: dict[str, dict] = {}
    for fault, found in faults.items():
        path = Path(found["input"])
        gone = path.is_file() and not happens_again(name, path.read_bytes())
        (fixed if gone else left)[fault] = found
    return left, fixed


def merged(earlier: dict, name: str, about: str, engine: str, counts: Counts) -> dict:
    """Counts of a target with those of earlier runs."""
    before = earlier.get(name, {"executions": {}, "seconds": 0, "read": 0, "refused": 0,
                                "places": 0, "covered": 0, "stops": 0, "faults": {}, "fixed": {}})
    faults = sum(times for outcome, times in counts.outcomes.items() if outcome.startswith("fault"))
    left, fixed = _part(name, before["faults"])
    whole = Counts(faults=left)
    for fault, found in counts.faults.items():
        whole.add_fault(fault, found["input"], found["detail"], found["times"])
    executions = dict(before["executions"])
    executions[engine] = executions.get(engine, 0) + counts.executions
    read = counts.outcomes["read"]
    places = [outcome for outcome in counts.outcomes if not outcome.startswith(("fault", "read"))]
    return {
        "about": about, "executions": executions,
        "seconds": round(before["seconds"] + counts.seconds, 1),
        "read": before["read"] + read,
        "refused": before["refused"] + counts.executions - read - faults,
        "places": max(before["places"], len(places)),
        "covered": max(before["covered"], counts.covered),
        "stops": before["stops"] + counts.stops, "faults": asdict(whole)["faults"],
        "fixed": before["fixed"] | fixed,
    }


def write_report(path: Path, targets: dict) -> None:
    """Write the counts of all targets."""
    write_json(path, {"targets": dict(sorted(targets.items()))})


def show(targets: dict) -> None:
    """Print one line per target."""
    table("", _HEADER, [
        [name, "+".join(one["executions"]), str(sum(one["executions"].values())),
         f"{one['seconds']:.0f}", str(one["read"]), str(one["refused"]), str(one["places"]),
         str(one["covered"] or "-"), str(len(one["fixed"])), str(len(one["faults"]))]
        for name, one in targets.items()])
