"""Devices of a Dask cluster: one in each worker, started, watched and found by Dask.

Requests and responses do not pass the scheduler: each transport connects to the device server of a
worker. When a worker dies, its device is gone, and a transport that opens later gets the device of
another worker, or of the same one after its restart.
"""

import asyncio
import secrets
import threading
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from functools import partial
from typing import Any

from tritstream.golden.errors import CheckpointError
from tritstream.golden.jobs.cluster_client import connect
from tritstream.host.errors import TransportClosed
from tritstream.host.transports.tcp import TIMEOUT, SocketTransport
from tritstream.hw.config import DeviceConfig

__all__ = ["CLUSTER_PORT", "Cluster", "ClusterTransport"]

#: Default port of a scheduler.
CLUSTER_PORT = 8786

#: Seconds between two looks for a free device.
_PAUSE = 0.25


class Cluster:
    """Device servers of a cluster. Methods may be called in any thread.

    Parameters
    ----------
    address : str
        Address of the scheduler, such as ``tcp://HOST:8786``.
    config : DeviceConfig
        Sizes of the devices.
    """

    def __init__(self, address: str, config: DeviceConfig):
        self._address, self._config = address, config
        self._lock = threading.Lock()
        self._client: Any = None
        self._users = 0
        self._taken: set[tuple[str, int]] = set()

    def join(self) -> None:
        """Count a transport that uses the cluster until :meth:`leave`."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Disconnect from the scheduler after the last transport. The servers go on."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._client:
                self._client.close()
                self._client = None
                self._taken.clear()

    def claim(self, wait: float) -> tuple[str, int, bytes]:
        """Return host, port and key of a free device, and never return it again.

        The first call starts the servers. Raises :class:`TransportClosed` if the scheduler does
        not respond, or if every device is in use for ``wait`` seconds.
        """
        with self._lock:
            deadline = time.monotonic() + wait
            while True:
                found = list(self._servers())
                for server in found:
                    place = server["host"], server["port"]
                    if server["client"] is None and place not in self._taken:
                        self._taken.add(place)
                        return *place, server["key"]
                if time.monotonic() >= deadline:
                    raise TransportClosed(
                        f"{self._address}: no free device in {wait:g} s; {len(found)} workers "
                        "have one. Start more workers, or end who uses them: tritstream top "
                        f"{self._address}")
                time.sleep(_PAUSE)

    def _servers(self) -> Iterator[dict[str, Any]]:
        """Yield the status of each server of these devices, without workers that are lost."""
        try:
            client = self._client = self._client or self._start()
            from tritstream.host.servers.cluster_plugin import device_servers, plugin_name
            found = client.run(device_servers, on_error="ignore")
        except (CheckpointError, OSError) as error:
            raise TransportClosed(str(error)) from None
        for servers in found.values():
            yield from (server for server in servers
                        if plugin_name(self._config).endswith(server["device"]))

    def _start(self) -> Any:
        """Connect to the scheduler, and start a server in each worker that has none."""
        client = connect(self._address)
        from tritstream.host.servers.cluster_plugin import DevicePlugin
        try:
            client.register_plugin(DevicePlugin(self._config, secrets.token_bytes(32)))
        except BaseException:
            client.close()
            raise
        return client


class ClusterTransport(SocketTransport):
    """Transport to a device of a cluster, which is chosen when the first request is sent.

    Parameters
    ----------
    cluster : Cluster
        Devices to choose from.
    timeout : float
        Seconds after which a silent device is retried.
    wait : float
        Seconds to wait for a free device.
    """

    def __init__(self, cluster: Cluster, timeout: float = TIMEOUT, wait: float = 5.0):
        super().__init__("", 0, timeout)
        self._cluster, self._wait = cluster, wait
        self._left = False
        cluster.join()

    def close(self) -> None:
        """Close the connection, and leave the cluster."""
        super().close()
        if not self._left:
            self._left = True
            self._cluster.leave()

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        if not self._host:
            self._host, self._port, self._key = await asyncio.to_thread(
                partial(self._cluster.claim, self._wait))
        return await super()._connect()
