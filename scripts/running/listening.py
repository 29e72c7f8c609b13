"""Addresses that servers listen on."""

import socket
from ipaddress import ip_address

__all__ = ["as_text", "is_loopback", "listen_address", "listen_on"]


def listen_address(listen: str, example: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT; raise :class:`ValueError` with an example if malformed."""
    host, _, port = listen.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ValueError(f"{listen}: listen must be HOST:PORT, such as {example}")
    return host.strip("[]"), int(port)


def listen_on(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise :class:`ValueError` if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise ValueError(f"cannot listen on {host} port {port} ({reason}); choose another with "
                         "--listen") from None
    listener.setblocking(False)
    return listener


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def as_text(listener: socket.socket) -> str:
    """Return host and port of a listening socket as they are written in an address."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
