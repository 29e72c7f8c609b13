"""Report of the rates of the memory-mapped core: shares, and cycles by cause."""

from collections.abc import Iterator

from tritstream.hw.axi.config import AxiConfig
from tritstream.scripts.console import table
from tritstream.sim.axi_core import Counts
from tritstream.sim.axi_timing import Cause

__all__ = ["AXI_COLUMNS", "axi_figures", "axi_rows", "show_axi"]

#: What a memory does when it could not send a word in any case.
_CLOSED = (Cause.REFRESH, Cause.GAP, Cause.RATE, Cause.WRITE, Cause.TURN, Cause.ROW)
#: Columns of the table of cases.
AXI_COLUMNS = ["layer of", "memory", "C", "L", "rows, all equal", "words", "cycles",
               "share in GEMV", "share of list", "word, %", "memory closed", "latency", "loading",
               "between requests", "in product", "no address"]


def axi_figures(config: AxiConfig, whole: list[Counts], alone: list[Counts]) -> dict:
    """Return the shares of the worst channel, and mean cycles by cause as seen by an engine."""
    def mean(values: Iterator[int]) -> float:
        return sum(values) / len(whole)
    empty = {cause.name.lower(): mean(counts.empty[cause] for counts in whole) for cause in Cause}
    return {
        "channels": config.channels, "lanes": config.lanes, "burst": config.burst,
        "outstanding": config.outstanding, "buffer": config.depth,
        "gemv_share": min(map(_share, alone)), "list_share": min(map(_share, whole)),
        "bytes": sum(counts.taken for counts in whole) * config.lanes,
        "words": mean(counts.taken for counts in whole),
        "cycles": mean(sum(counts[:4]) + sum(counts.empty.values()) for counts in whole),
        "loading": mean(counts.loading for counts in whole),
        "between": mean(counts.between for counts in whole),
        "product": mean(counts.product for counts in whole), "empty": empty,
    }


def _share(counts: Counts) -> float:
    """Return the words that came, divided by those that the memory could have sent."""
    words = counts.memory[Cause.WORD]
    return words / (sum(counts.memory.values()) - sum(counts.memory[cause] for cause in _CLOSED))


def show_axi(report: dict) -> None:
    """Print a report of :func:`axi`."""
    table(f"latency {report['timing']['latency']}, depth {report['depth']}; means of the channels, "
          "shares of the worst", AXI_COLUMNS, axi_rows(report), texts=2)


def axi_rows(report: dict) -> list[list[str]]:
    """Return the cases of a report as rows of :data:`AXI_COLUMNS`."""
    return [_row(report["memory"], row) for row in report["cases"]]


def _row(memory: str, row: dict) -> list[str]:
    empty  = row["empty"]
    closed = sum(empty[cause.name.lower()] for cause in _CLOSED)
    parts  = (row["words"], closed, empty["latency"], row["loading"], row["between"],
              row["product"], empty["no_address"])
    return [row["size"], memory, str(row["channels"]), str(row["lanes"]), str(row["rows"]),
            f"{row['words']:.0f}", f"{row['cycles']:.0f}", f"{row['gemv_share']:.4f}",
            f"{row['list_share']:.4f}", *(f"{100 * part / row['cycles']:.2f}" for part in parts)]
