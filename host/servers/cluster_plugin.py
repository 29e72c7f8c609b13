"""Device servers in the workers of a Dask cluster. It needs the package ``distributed``."""

import asyncio
import logging
import os
import socket
import time
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from distributed import Worker, WorkerPlugin

from tritstream.host.servers.tcp_device import DeviceServer
from tritstream.host.transports.native import simulated
from tritstream.hw.config import DeviceConfig

__all__ = ["DevicePlugin", "device_servers", "plugin_name"]

#: Prefix of the names of the plugins, before the sizes of the device.
_PREFIX = "tritstream device "


class DevicePlugin(WorkerPlugin):
    """Serve a simulated device in each worker of a cluster, as long as the worker lives.

    The scheduler gives the plugin to workers that join later and to workers that it restarts. A
    second registration for devices of the same sizes changes nothing.

    Parameters
    ----------
    config : DeviceConfig
        Sizes of the devices.
    key : bytes
        Key that clients of the devices must know.
    """

    idempotent = True

    def __init__(self, config: DeviceConfig, key: bytes):
        self.name = plugin_name(config)
        self._config, self._key = config, key

    async def setup(self, worker: Worker) -> None:
        """Build the device and serve it, at any free port of the worker's address."""
        device = await asyncio.to_thread(simulated, self._config)
        self._since = time.time()
        self._listener = _listen_beside(worker)
        self._server = DeviceServer(device, logging.getLogger(__name__).info, self._key)
        self._task = asyncio.create_task(self._server.serve(self._listener))

    async def teardown(self, worker: Worker) -> None:
        """Send the client away and close the device."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._listener.close()
        await asyncio.to_thread(self._server.close)

    def status(self) -> dict[str, Any]:
        """Return address, key, age in seconds and use of the device."""
        host, port = self._listener.getsockname()[:2]
        return {"device": self.name.removeprefix(_PREFIX), "host": host, "port": port,
                "key": self._key, "pid": os.getpid(), "age_s": time.time() - self._since,
                **asdict(self._server.use)}


def plugin_name(config: DeviceConfig) -> str:
    """Return the name of the plugin that serves devices of these sizes."""
    return f"{_PREFIX}lanes={config.lanes},columns={config.columns},max_k={config.max_k}"


def device_servers(dask_worker: Worker) -> list[dict[str, Any]]:
    """Return the :meth:`DevicePlugin.status` of the devices of a worker, in that worker."""
    return [plugin.status() for plugin in dask_worker.plugins.values()
            if isinstance(plugin, DevicePlugin) and hasattr(plugin, "_task")]


def _listen_beside(worker: Worker) -> socket.socket:
    """Return a listening socket at the address under which other machines reach a worker."""
    host = urlsplit(worker.address).hostname or ""
    listener = socket.create_server(
        (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setblocking(False)
    return listener
