"""The report of a fuzzing, from which it goes on, and files of sessions that found a fault."""

import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tritstream.golden.strict_json import parse_json
from tritstream.hw.config import DeviceConfig
from tritstream.scripts.assurance.rtl_fuzz.session import Session, Tally
from tritstream.scripts.console import write_json, write_text
from tritstream.sim.build import NativeBuild

__all__ = ["FuzzReport", "read_session", "write_session"]

#: Seconds after which the report is written again.
_EVERY = 3.0


class FuzzReport:
    """Counts of each device that is fuzzed, and its faults.

    Parameters
    ----------
    path : Path or None
        Where it is kept; a fuzzing that was stopped goes on from there.
    seed : int

    Raises :class:`ValueError` when the file is no report, or of another seed.
    """

    def __init__(self, path: Path | None, seed: int):
        self._path, self._written = path, time.monotonic()
        self.plain = self._read() or {"fuzz": {"seed": seed}, "engine": "", "devices": []}
        if self.plain["fuzz"] != {"seed": seed}:
            raise ValueError(f"{path} is of --seed {self.plain['fuzz']['seed']}: go on with that, "
                             "or write elsewhere")

    @property
    def faults(self) -> list[dict]:
        """All faults, with their devices."""
        return [fault for entry in self.plain["devices"] for fault in entry["faults"]]

    def entry(self, config: DeviceConfig, build: NativeBuild) -> dict:
        """Counts of one device, from nothing where its RTL is another than before."""
        sizes = {"lanes": config.lanes, "columns": config.columns, "max_k": config.max_k}
        of = sizes | {"rtl_sha256": build.rtl_sha256}
        self.plain["engine"] = build.engine
        for entry in self.plain["devices"]:
            if of.items() <= entry.items():
                return entry
        self.plain["devices"] = [entry for entry in self.plain["devices"]
                                 if not sizes.items() <= entry.items()]
        entry = of | {"seconds": 0.0, **_plain(Tally()), "faults": []}
        self.plain["devices"].append(entry)
        return entry

    def count(self, entry: dict, tally: Tally, seconds: float) -> None:
        """Add what a session did."""
        for name, value in _plain(tally).items():
            if isinstance(value, dict):
                entry[name] = dict(sorted((Counter(entry[name]) + Counter(value)).items()))
            else:
                entry[name] += value
        entry["seconds"] = round(entry["seconds"] + seconds, 3)
        if time.monotonic() > self._written + _EVERY:
            self.write()

    def write(self) -> None:
        """Write the file whole, if there is to be one."""
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
            raise ValueError(f"{self._path}: no report of fuzzing; write elsewhere")
        return plain


def write_session(path: Path, config: DeviceConfig, session: Session, fault: str) -> None:
    """Keep what a session fed to its device, up to its fault."""
    steps = [[what, *(value.hex() if isinstance(value, bytes) else value for value in values)]
             for what, *values in session.steps]
    write_text(path, json.dumps({"device": asdict(config), "fault": fault, "steps": steps}) + "\n")


def read_session(path: Path) -> tuple[DeviceConfig, list[tuple]]:
    """Device and steps of a session that was kept; raises :class:`ValueError` for another file."""
    try:
        plain = parse_json(path.read_bytes())
        steps = [(what, *(bytes.fromhex(value) if what == "push" else value for value in values))
                 for what, *values in plain["steps"]]
        return DeviceConfig(**plain["device"]), steps
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no session of `tritstream dev rtl-fuzz` ({error})") from None


def _plain(tally: Tally) -> dict:
    return {name: dict(value) if isinstance(value, Counter) else value
            for name, value in vars(tally).items()}
