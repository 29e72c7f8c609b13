"""Process that shares a simulated device, with few imports. Prints its port, then serves.

    python -m support.device_server LIBRARY
"""

import asyncio
import socket
import sys

from tritstream.host.servers.tcp_device import DeviceServer
from tritstream.host.transports.native import NativeTransport
from tritstream.sim.native import NativeDevice


def main():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        server = DeviceServer(NativeTransport(NativeDevice(sys.argv[1])), lambda line: None)
        print(listener.getsockname()[1], flush=True)
        asyncio.run(server.serve(listener))


if __name__ == "__main__":
    main()
