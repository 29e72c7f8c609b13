"""Command that shows the devices of a cluster and who uses them."""

import sys
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from tritstream.golden.jobs.cluster_client import connect
from tritstream.scripts.console import as_table, print_json, reports_errors, table
from tritstream.scripts.options import Json

__all__ = ["top"]

_COLUMNS = ["worker", "device", "address", "client", "pid", "clients", "MB in", "MB out", "busy %",
            "CPU %", "memory MB", "age s"]

#: Columns with text.
_TEXTS = 4


@reports_errors
def top(
    cluster: Annotated[str, typer.Argument(
        metavar="SCHEDULER", help="Scheduler of the Dask cluster: tcp://HOST:8786.")],
    once: Annotated[bool, typer.Option(
        "--once", help="Print one table and end; the default without a terminal.")] = False,
    interval: Annotated[float, typer.Option(
        min=0.1, help="Seconds between two looks.")] = 1.0,
    as_json: Json = False,
):
    """Show the devices of a Dask cluster: workers, clients, bytes, and share of time in use.

    Workers that have no device yet are shown too. Ctrl-C ends the command.
    """
    with connect(cluster) as client:
        before = _rows(client)
        if as_json:
            print_json({"cluster": cluster, "devices": before})
        elif once or not sys.stdout.isatty():
            table("", _COLUMNS, [_cells(row, None) for row in before], _TEXTS)
        else:
            _watch(client, before, interval)


def _watch(client: Any, before: list[dict], interval: float) -> None:
    """Renew the table until Ctrl-C."""
    try:
        shown = Console(highlight=False, emoji=False, markup=False)
        with Live(_table(before, []), console=shown, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                now = _rows(client)
                live.update(_table(now, before), refresh=True)
                before = now
    except KeyboardInterrupt:
        pass


def _rows(client: Any) -> list[dict]:
    """Return a row for each device, and one for each worker without a device."""
    from tritstream.host.servers.cluster_plugin import device_servers

    servers = client.run(device_servers, on_error="ignore")
    rows = []
    for address, worker in sorted(client.scheduler_info(n_workers=-1)["workers"].items()):
        metrics = worker.get("metrics", {})
        load = {"worker": worker["name"], "address": address, "cpu": metrics.get("cpu", 0.0),
                "memory": metrics.get("memory", 0)}
        for server in servers.get(address, []) or [{}]:
            rows.append(load | {name: value for name, value in server.items() if name != "key"})
    return rows


def _table(rows: list[dict], before: list[dict]) -> Table:
    earlier = {(row["address"], row.get("port")): row for row in before}
    return as_table("", _COLUMNS, [
        _cells(row, earlier.get((row["address"], row.get("port")))) for row in rows], _TEXTS)


def _cells(row: dict, before: dict | None) -> list[str]:
    """Return the cells of a row; the busy share is since ``before``, or since the start."""
    load = [f"{row['cpu']:.0f}", f"{row['memory'] / 1e6:.0f}"]
    if "device" not in row:
        return [str(row["worker"]), "none yet", row["address"], *["-"] * 6, *load, "-"]
    since = before if before and "busy_s" in before else {"age_s": 0.0, "busy_s": 0.0}
    busy = (row["busy_s"] - since["busy_s"]) / max(row["age_s"] - since["age_s"], 1e-9)
    return [str(row["worker"]), row["device"], f"{row['host']}:{row['port']}",
            row["client"] or "-", str(row["pid"]), str(row["clients"]),
            f"{row['request_bytes'] / 1e6:.1f}", f"{row['response_bytes'] / 1e6:.1f}",
            f"{100 * busy:.0f}", *load, f"{row['age_s']:.0f}"]
