"""Report of the RTL fuzz, from which it resumes, and files of sessions with a fault."""

import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tritstream.golden.strict_json import parse_json
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.assurance.rtl_fuzz.session import Session
from tritstream.scripts.console import write_json, write_text
from tritstream.sim.build import NativeBuild

__all__ = ["FuzzReport", "read_session", "write_session"]

#: Seconds between two writes of the report.
_EVERY = 3.0


class FuzzReport:
    """Counts and faults of each fuzzed device.

    Parameters
    ----------
    path : Path or None
        File of the report, from which a stopped fuzz resumes; None for no file.
    seed : int
        Random seed of all sessions.

    Raises :class:`ValueError` if the file is not a report, or has another seed.
    """

    def __init__(self, path: Path | None, seed: int):
        self._path, self._written = path, time.monotonic()
        self.plain = self._read() or {"fuzz": {"seed": seed}, "engine": "", "devices": []}
        if self.plain["fuzz"] != {"seed": seed}:
            raise ValueError(f"{path} is of --seed {self.plain['fuzz']['seed']}: use this seed, "
                             "or write elsewhere")

    @property
    def faults(self) -> list[dict]:
        """Faults of all devices."""
        return [fault for entry in self.plain["devices"] for fault in entry["faults"]]

    def entry(self, sizes: dict[str, int], build: NativeBuild, tally: object) -> dict:
        """Return the counts of a device; they start as ``tally`` if its RTL has changed."""
        of = sizes | {"rtl_sha256": build.rtl_sha256}
        self.plain["engine"] = build.engine
        for entry in self.plain["devices"]:
            if of.items() <= entry.items():
                return entry
        self.plain["devices"] = [entry for entry in self.plain["devices"]
                                 if not sizes.items() <= entry.items()]
        entry = of | {"seconds": 0.0, **_plain(tally), "faults": []}
        self.plain["devices"].append(entry)
        return entry

    def count(self, entry: dict, tally: object, seconds: float) -> None:
        """Add the counts of a session."""
        for name, value in _plain(tally).items():
            if isinstance(value, dict):
                entry[name] = dict(sorted((Counter(entry[name]) + Counter(value)).items()))
            else:
                entry[name] += value
        entry["seconds"] = round(entry["seconds"] + seconds, 3)
        if time.monotonic() > self._written + _EVERY:
            self.write()

    def write(self) -> None:
        """Write the complete file, if the report has one."""
        if self._path:
            write_json(self._path, self.plain)
        self._written = time.monotonic()

    def _read(self) -> dict | None:
        try:
            plain = parse_json(self._path.read_bytes()) if self._path else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._path}: cannot be read as a report of fuzzing ({error}); "
                             "write elsewhere") from None
        if plain is not None and not (isinstance(plain, dict) and "fuzz" in plain):
            raise ValueError(f"{self._path}: not a report of fuzzing; write elsewhere")
        return plain


def write_session(path: Path, config: DeviceConfig, session: Session, fault: str) -> None:
    """Write the steps of a session up to its fault."""
    steps = [[what, *(value.hex() if isinstance(value, bytes) else value for value in values)]
             for what, *values in session.steps]
    write_text(path, json.dumps({"device": asdict(config), "fault": fault, "steps": steps}) + "\n")


def read_session(path: Path) -> tuple[DeviceConfig, list[tuple]]:
    """Return device and steps of a written session.

    Raises :class:`ValueError` if the file is not one.
    """
    try:
        plain = parse_json(path.read_bytes())
        steps = [(what, *(bytes.fromhex(value) if what == "push" else value for value in values))
                 for what, *values in plain["steps"]]
        return DeviceConfig(**plain["device"]), steps
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a session of `tritstream dev rtl-fuzz` ({error})") from None


def _plain(tally: object) -> dict:
    return {name: dict(value) if isinstance(value, Counter) else value
            for name, value in vars(tally).items()}
