"""Devices of a Dask cluster of processes on this machine."""

import asyncio
import json
import os
import re
import signal
import time

import numpy as np
import pytest
from distributed import Client

from tritstream.golden.gemv import gemv
from tritstream.golden.jobs import cluster_client
from tritstream.host.errors import HostError, TransportClosed
from tritstream.host.failover import FailoverWarning
from tritstream.host.open_device import open_device
from tritstream.host.servers.cluster_plugin import device_servers
from tritstream.hw.config import DeviceConfig

from support.cli_helpers import command_fails, run_command
from support.cluster_helpers import PATIENCE, dask_cluster
from support.host_cases import matrix_of, vectors

MATRIX = matrix_of(300, 64)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Spec of the devices, and processes of four workers."""
    with dask_cluster(tmp_path_factory.mktemp("cluster"), 4) as (address, processes):
        yield address.replace("tcp", "dask") + ",lanes=4", processes


@pytest.fixture
def cluster(started):
    """The cluster, once its devices have noticed that the test before does not use them."""
    while any(server["client"] for server in servers(started)):
        time.sleep(0.05)
    return started


async def products(device, count=6, between=None):
    """Multiply several vectors, and compare with golden."""
    prepared = await device.prepare(MATRIX, "m")
    for step in range(count):
        x = vectors(64, seed=step)
        sums, _ = await device.gemv(prepared, x)
        np.testing.assert_array_equal(sums, gemv(MATRIX, x))
        if between and step == 2:
            await between()


def test_devices_of_workers_equal_golden(cluster):
    async def work():
        async with open_device(f"{cluster[0]},devices=2") as device:
            assert (await device.identify()).lanes == 8
            await products(device)
            names = [server["client"] for server in servers(cluster)]
            assert sum(name is not None for name in names) == 2

    asyncio.run(work())


def address_of(cluster):
    return cluster[0].partition(",")[0].replace("dask", "tcp")


def servers(cluster):
    """Status of all device servers."""
    with Client(address_of(cluster), timeout=PATIENCE) as client:
        return [server for each in client.run(device_servers).values() for server in each]


def test_a_device_that_is_used_is_passed_over_and_none_may_be_left(cluster):
    async def work():
        async with open_device(f"{cluster[0]},devices=3") as first:
            await products(first, 1)
            async with open_device(f"{cluster[0]},devices=2,wait=0.1") as second:
                with pytest.raises(TransportClosed, match=(
                        r"IDENTIFY: tcp://\S+: no free device in 0\.1 s; 4 workers have one\. "
                        "Start more workers, or end who uses them: tritstream top tcp://")):
                    await second.identify()
            await products(first, 1)

    asyncio.run(work())


def test_top_shows_the_devices(cluster):
    async def work():
        async with open_device(f"{cluster[0]},devices=2") as device:
            await products(device)
            return await asyncio.to_thread(run_command, "top", address, "--json"), \
                await asyncio.to_thread(run_command, "top", address)

    address = address_of(cluster)
    report, shown = asyncio.run(work())
    rows = json.loads(report[1])["devices"]
    used = [row for row in rows if row["client"]]
    assert (len(rows), len(used)) == (4, 2)
    sizes = f"lanes=4,columns=1,max_k={DeviceConfig().max_k}"
    assert all(row["device"] == sizes and "key" not in row for row in rows)
    assert all(row["request_bytes"] > 1000 and row["response_bytes"] > 300 for row in used)
    lines = shown[1].splitlines()
    assert len([line for line in lines if "lanes=4" in line]) == 4
    assert sum(row["client"] in shown[1] for row in used) == 2


def test_top_without_a_cluster(monkeypatch):
    monkeypatch.setattr(cluster_client, "_PATIENCE", 0.5)
    assert re.fullmatch(r"tcp://127\.0\.0\.1:1: no Dask scheduler answers \(.*\); start one with "
                        "dask scheduler, and workers", command_fails("top", "tcp://127.0.0.1:1"))


def test_a_worker_that_is_killed_is_replaced_by_another(cluster):
    async def work():
        async with open_device(f"{cluster[0]},devices=2") as device:
            async def kill():
                pid = next(server["pid"] for server in servers(cluster) if server["client"])
                os.kill(pid, signal.SIGKILL)
                cluster[1][[each.pid for each in cluster[1]].index(pid)].wait()

            with pytest.warns(FailoverWarning, match="its rows go to dask://") as seen:
                await products(device, between=kill)
            assert len(seen) == 1 and len(device.devices) == 2

    asyncio.run(work())
    assert sum(process.poll() is None for process in cluster[1]) == 3


def test_a_cluster_that_is_not_there(monkeypatch):
    async def work():
        async with open_device("dask://127.0.0.1:1,spares=0") as device:
            await device.identify()

    monkeypatch.setattr(cluster_client, "_PATIENCE", 0.5)
    with pytest.raises(HostError, match=(
            r"^dask://127\.0\.0\.1:1,spares=0: IDENTIFY: tcp://127\.0\.0\.1:1: no Dask scheduler "
            r"answers \(.*\); start one with dask scheduler, and workers$")):
        asyncio.run(work())


@pytest.mark.parametrize("spec, reason", [
    ("dask://h:1,devices=0", "devices must be at least 1 and spares at least 0"),
    ("dask://h:1,spares=-1", "devices must be at least 1 and spares at least 0"),
    ("dask://h:1,devices=two", "devices must be a number, not 'two'"),
    ("dask://h:1,baud=3", "no option 'baud'; there are "
                          "lanes, columns, max_k, timeout, wait, tls"),
    ("dask:lanes=3", "write dask://HOST:PORT"),
])
def test_wrong_specs(spec, reason):
    with pytest.raises(ValueError, match=f"^{spec}: {reason}$"):
        open_device(spec)


@pytest.mark.long
def test_workers_that_are_killed_again_and_again_come_back(tmp_path):
    """Two workers whose nannies restart them: every device is one that was killed before."""
    async def work():
        async with open_device(f"{spec},devices=1,spares=5,wait=120") as device:
            async def kill():
                pid = next(server["pid"] for server in servers([spec]) if server["client"])
                os.kill(pid, signal.SIGKILL)

            for _ in range(4):
                with pytest.warns(FailoverWarning, match="its rows go to dask://"):
                    await products(device, between=kill)

    with dask_cluster(tmp_path, 2, nanny=True) as (address, _):
        spec = address.replace("tcp", "dask") + ",lanes=4"
        asyncio.run(work())
