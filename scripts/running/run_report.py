"""Results of a run: kept in a file, as a dict of plain values, and as printed lines."""

from dataclasses import asdict
from pathlib import Path

from tritstream.golden.jobs.journal import Journal, understood
from tritstream.golden.write_errors import writing
from tritstream.host.device import Device
from tritstream.host.device_group import DeviceGroup
from tritstream.scripts.console import Failure, table
from tritstream.scripts.running.stream import MatrixRun, Seconds

__all__ = ["RunResults", "describe", "mismatch", "show", "totals"]

_HEADER = ["matrix", "shape", "d", "stored b/w", "info b/w", "vectors", "words", "cycles",
           "words/cycle", "rows compared", "mismatches", "error", "device s"]


class RunResults:
    """Results by name of matrix, kept in a file. Leaving the context closes the file.

    Parameters
    ----------
    report : Path, optional
        Path of the report. ``REPORT.partial`` keeps the results until the report is written.
        Without a report, nothing is kept.
    """

    def __init__(self, report: Path | None = None):
        self._report = report
        self._journal: Journal | None = None
        self._runs: dict[str, MatrixRun] = {}

    def __enter__(self) -> "RunResults":
        return self

    def __exit__(self, *_) -> None:
        if self._journal:
            self._journal.close()

    def begin(self, settings: dict) -> None:
        """Load the results of an earlier run with the same settings, which are plain values.

        Raises :class:`ValueError` if ``REPORT.partial`` belongs to another run.
        """
        if not self._report:
            return
        path = self._report.with_name(f"{self._report.name}.partial")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(path)
        other = self._journal.lines and not self._journal.is_of(settings)
        if other or self._journal.is_foreign:
            raise ValueError(f"{path}: left by another run; remove it, or name another report")
        records = self._journal.begin(settings)
        self._runs = {name: understood(MatrixRun.of, record, path)
                      for name, record in records.items()}

    def get(self, name: str) -> MatrixRun | None:
        """Return the result of a matrix, or None if there is none yet."""
        return self._runs.get(name)

    def add(self, run: MatrixRun) -> None:
        """Keep the result of a matrix."""
        self._runs[run.name] = run
        if self._journal:
            self._journal.record(run.name, asdict(run))

    def discard(self) -> None:
        """Remove ``REPORT.partial``, once the report is written."""
        if self._journal:
            self._journal.path.unlink()


async def describe(device: Device | DeviceGroup) -> dict:
    """Describe the device as a whole, and each of its devices by name, with its origin."""
    devices = device.devices if isinstance(device, DeviceGroup) else (device,)
    return {"device": asdict(await device.info()),
            "devices": [{"name": one.name, **asdict(await one.info()), **one.about}
                        for one in devices]}


def totals(runs: list[MatrixRun]) -> dict:
    """Return sums over the matrices, and bits per weight as averages over the weights."""
    weights = sum(run.rows * run.columns for run in runs)

    def mean(name):
        return sum(getattr(run, name) * run.rows * run.columns for run in runs) / weights

    def total(name):
        return sum(getattr(run, name) for run in runs)
    return {
        "matrices": len(runs), "weights": weights,
        "stored_bits": mean("stored_bits"), "information_bits": mean("information_bits"),
        "words": total("words"), "stream_bytes": total("stream_bytes"), "cycles": total("cycles"),
        "words_per_cycle": total("words") / sum(run.words / run.words_per_cycle for run in runs),
        "compared": total("compared"), "mismatches": total("mismatches"),
        "seconds": {name: sum(getattr(run.seconds, name) for run in runs)
                    for name in Seconds.__dataclass_fields__},
    }


def mismatch(runs: list[MatrixRun]) -> Failure | None:
    """Return the failure to raise if a row differs: the first such row, with both numbers."""
    for run in runs:
        if first := run.first_mismatch:
            count = sum(run.mismatches for run in runs)
            return Failure(
                f"{run.name}: row {first['row']} of vector {first['vector']} is "
                f"{first['device']} on the device and {first['golden']} in golden "
                f"({count} rows differ): the RTL that ran is not the machine golden describes")
    return None


def show(result: dict, report: Path | None) -> None:
    """Print the devices, a line per matrix, and the rates."""
    for device in result["devices"]:
        _show_device(device)
    total = result["totals"]
    rows = [_row(run) for run in result["matrices"]]
    table("", _HEADER, [*rows, _total_row(total)])
    _show_rates(total)
    if "packed" in result:
        print(f"packed checkpoint: {result['packed']}")
    if report:
        print(f"report: {report}")


def _show_device(device: dict) -> None:
    if "engine" in device:
        print(f"engine  {device['engine']}")
        print(f"RTL     sha256 {device['rtl_sha256']}")
    print(f"device  {device['name']}: L = {device['lanes']}, B = {device['columns']}, "
          f"K up to {device['max_k']}\n")


def _row(run: MatrixRun) -> list[str]:
    return [
        run.name, f"{run.rows}x{run.columns}", str(run.depth), f"{run.stored_bits:.2f}",
        f"{run.information_bits:.2f}", str(run.vectors), str(run.words), str(run.cycles),
        f"{run.words_per_cycle:.4f}", str(run.compared), str(run.mismatches),
        "" if run.error is None else f"{run.error:.2e}", f"{run.seconds.device:.2f}",
    ]


def _total_row(total: dict) -> list[str]:
    return [
        f"total of {total['matrices']}", f"{total['weights']} w", "", f"{total['stored_bits']:.2f}",
        f"{total['information_bits']:.2f}", "", str(total["words"]), str(total["cycles"]),
        f"{total['words_per_cycle']:.4f}", str(total["compared"]), str(total["mismatches"]), "",
        f"{total['seconds']['device']:.2f}",
    ]


def _show_rates(total: dict) -> None:
    seconds, size = total["seconds"], total["stream_bytes"] / 1e6
    print(f"\ndevice  {seconds['device']:.2f} s ({seconds['device_cpu']:.2f} s of CPU) for "
          f"{size:.1f} MB of words: {size / seconds['device']:.1f} MB per second, "
          f"{total['cycles'] / seconds['device'] / 1e6:.2f} M cycles per second")
    print(f"host    {seconds['prepare']:.2f} s to read the matrices and make the words, "
          f"{seconds['check']:.2f} s to compare with golden")
