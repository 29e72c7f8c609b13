"""Tables of docs/area.md, arena.md, methods.md and placement.md that compare several cases."""

import json
from math import log10
from pathlib import Path

from tritstream.scripts.hardware.area_table import SYNTHESIZED, synthesized_figures
from tritstream.scripts.reports.arena.table import arena_table
from tritstream.scripts.running.plan_report import PLAN_COLUMNS, plan_row

__all__ = ["TABLES", "density", "method_name", "reference"]

_PEERS = ["engine", "commit", "TRELLIS_COMB", "flip-flops", "DP16KD", "Fmax, MHz",
          "trit-MACs per cycle", "COMB per trit-MAC", "G trit-MAC/s per kLUT"]
_METHODS = ["d", "stored bits", "method", "squared error", "dB", "PPL", "KLD", "KLD change",
            "same top p, %"]
#: Names of calibrations in a table.
_CALIBRATIONS = {"random": "random tokens", "novel": "a novel"}


def density(peer: dict) -> tuple[float, float]:
    """Return TRELLIS_COMB per trit-MAC per cycle, and 1e9 trit-MACs per second per 1000 of them."""
    cells = peer["cells"]["TRELLIS_COMB"]
    return cells / peer["trit_macs"], peer["fmax_mhz"] * peer["trit_macs"] / cells


def _peers(path: Path) -> tuple[list[str], list[list[str]]]:
    return _PEERS, [_peer_row(peer) for peer in json.loads(path.read_text())["peers"]]


def _synthesized_peers(path: Path) -> tuple[list[str], list[list[str]]]:
    return ["engine", "commit", "trit-MACs per cycle", *SYNTHESIZED], [
        [*_origin(peer), str(peer["trit_macs"]),
         *synthesized_figures(peer["cells"], peer["trit_macs"])]
        for peer in json.loads(path.read_text())["peers"]]


def _origin(peer):
    change = f", with {peer['change']}" if "change" in peer else ""
    return (f"`{peer['repository']}`, `{peer['module']}`, {peer['parameters']}{change}",
            f"`{peer['commit'][:8]}`")


def _peer_row(peer):
    area, rate = density(peer)
    return [*_origin(peer),
            *(str(peer["cells"][cell]) for cell in ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD")),
            f"{peer['fmax_mhz']:.1f}", str(peer["trit_macs"]), f"{area:.1f}", f"{rate:.2f}"]


def method_name(model: dict) -> str:
    """Method, calibration and budget that chose the weights."""
    how = _CALIBRATIONS.get(model["calibration"])
    if model["budget"]:
        return f"`--budget {model['budget']:g}`, {how or '`' + model['method'] + '`'}"
    return f"`{model['method']}`" + (f", {how}" if how else "")


def reference(model: dict, models: list[dict]) -> dict | None:
    """Model with one depth, by the default method, that takes as many stored bits."""
    plain = (one for one in models if one["method"] == "tritllm-v2" and not one["budget"])
    return next((one for one in plain
                 if f"{one['stored_bits']:.2f}" == f"{model['stored_bits']:.2f}"), None)


def _methods(path: Path) -> tuple[list[str], list[list[str]]]:
    models = json.loads(path.read_text())["models"]
    return _METHODS, [_method_row(model, reference(model, models)) for model in models]


def _method_row(model, against):
    gain = change = ""
    if against and against is not model:
        gain   = f"{10 * log10(against['squared_error'] / model['squared_error']):+.1f}"
        change = f"{model['kl']['value'] / against['kl']['value'] - 1:+.0%}"
    return [", ".join(map(str, model["depths"])), f"{model['stored_bits']:.2f}",
            method_name(model), f"{model['squared_error']:.2e}", gain,
            _with_error(model["perplexity"], 2), _with_error(model["kl"], 5), change,
            _with_error(model["same_top"], 2, 100)]


def _with_error(figure, digits, times=1):
    return " ± ".join(f"{times * figure[part]:.{digits}f}" for part in ("value", "error"))


def _plans(path: Path) -> tuple[list[str], list[list[str]]]:
    return PLAN_COLUMNS, [plan_row(one) for one in json.loads(path.read_text())]


def _arena(path: Path) -> tuple[list[str], list[list[str]]]:
    return arena_table(json.loads(path.read_text()))


#: Functions that make columns and rows, by the last part of the path in the page.
TABLES = {"plan.json": _plans, "peers.json": _peers, "xcup-peers.json": _synthesized_peers,
          "divergence.json": _methods, "arena.json": _arena}
