"""Tables of docs/faults.md: runs of fuzzing and soak, and the planted faults they found."""

import json
from pathlib import Path

__all__ = ["TABLES"]

_ANSWERS = ["RESULT", "DONE", "ACK", "INFO", "COUNTERS", *(f"ERROR {code}" for code in range(1, 8))]
_FUZZ = ["L", "B", "max K", "cycles", "words in", "elements", *_ANSWERS, "faults"]
_FILES = ["target", "what is read", "inputs", "seconds", "read", "refused", "branches", "stops",
          "fixed", "faults left"]
_SOAK = ["devices", "jobs", "rows compared", "responses compared", "cycles", "words", "retries",
         "failed"]


def _fuzz(path: Path) -> tuple[list[str], list[list[str]]]:
    devices = json.loads(path.read_text())["devices"]
    rows = [_fuzz_row(one) for one in sorted(devices, key=lambda one: (one["lanes"],
                                                                       one["columns"]))]
    total = ["all", "", "", *(str(sum(int(row[place]) for row in rows))
                              for place in range(3, len(_FUZZ)))]
    return _FUZZ, [*rows, total]


def _fuzz_row(one):
    values = (one["lanes"], one["columns"], one["max_k"], one["cycles"], one["words_in"],
              sum(one["elements"].values()),
              *(one["answers"].get(name, 0) for name in _ANSWERS), len(one["faults"]))
    return [str(value) for value in values]


def _axi_fuzz(path: Path) -> tuple[list[str], list[list[str]]]:
    devices = json.loads(path.read_text())["devices"]
    rows = [[str(value) for value in (
        *(one[name] for name in ("channels", "lanes", "burst", "buffer", "sessions", "cycles")),
        *(sum(one[name].values()) for name in ("elements", "disturbances")), one["errors"],
        sum(one["answers"].values()), one["answers"].get("DONE", 0), len(one["faults"]))]
        for one in devices]
    return ["C", "L", "burst", "buffer", "sessions", "cycles", "elements", "disturbances",
            "errors of memories", "responses", "products", "faults"], rows


def _mutants(path: Path) -> tuple[list[str], list[list[str]]]:
    rows = [[name, str(found["cycles"]), str(found["sessions"]), found["found"].replace("|", "/")]
            if found else [name, "-", "-", "not found"]
            for name, found in json.loads(path.read_text()).items()]
    return ["planted fault", "found after cycles", "sessions", "as"], rows


def _soak(path: Path) -> tuple[list[str], list[list[str]]]:
    plain = json.loads(path.read_text())
    rows = [[f"`{name}`" if name.startswith("sim") else name, *map(str, counts.values())]
            for name, counts in [*sorted(plain["devices"].items()), ("all", plain["total"])]]
    return _SOAK, rows


def _soak_faults(path: Path) -> tuple[list[str], list[list[str]]]:
    name, _, _ = path.name.partition("#")
    faults = json.loads(path.with_name(name).read_text())["faults"]
    links = {kind: count for kind, count in faults.items() if not kind.startswith("frames")}
    links["damaged frames, sent to raw devices"] = (
        sum(faults.values()) - sum(links.values()))
    return ["fault", "times"], [[kind, str(count)] for kind, count in links.items()]


def _files(path: Path) -> tuple[list[str], list[list[str]]]:
    found = json.loads(path.read_text())["targets"]
    rows = [_file_row(f"`{name}`", one) for name, one in found.items()]
    sums = [str(sum(int(row[place]) for row in rows)) for place in range(2, len(_FILES) - 1)]
    # Targets share branches, so their counts must not be added.
    sums[_FILES.index("branches") - 2] = ""
    return _FILES, [*rows, ["all", "", *sums, str(sum(int(row[-1]) for row in rows))]]


def _file_row(name, one):
    values = (sum(one["executions"].values()), round(one["seconds"]), one["read"], one["refused"],
              one["covered"], one["stops"], len(one["fixed"]), len(one["faults"]))
    return [name, one["about"], *map(str, values)]


#: Columns and rows of a table, by the name of its report.
TABLES = {"fuzz-rtl.json": _fuzz, "rtl-mutants.json": _mutants, "fuzz-axi.json": _axi_fuzz,
          "axi-mutants.json": _mutants, "soak.json": _soak, "soak.json#faults": _soak_faults,
          "fuzz.json": _files}
