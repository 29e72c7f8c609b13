"""Everything that can go wrong between the driver and a device, in one hierarchy.

Wrong arguments are not here: they raise :class:`ValueError` or :class:`TypeError` before anything
is sent.
"""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "HostError", "TransportError", "TransportTimeout", "TransportClosed", "BadAnswer",
    "DeviceError", "naming",
]


class HostError(Exception):
    """Base of every error of this package; the message is one line."""


class TransportError(HostError):
    """The bytes did not get through."""


class TransportTimeout(TransportError):
    """The device stayed silent; the driver tries again."""


class TransportClosed(TransportError):
    """The device is gone (unplugged, closed); trying again is useless."""


class BadAnswer(HostError):
    """An answer that is damaged or breaks the protocol; the driver tries again."""


class DeviceError(HostError):
    """The device refused a request, does not fit, or did not answer in any of the tries.

    Members
    -------
    code : int or None
        Error code of the protocol, or None when it was not the device that refused.
    """

    def __init__(self, message: str, code: int | None = None):
        super().__init__(message)
        self.code = code


@contextmanager
def naming(*names: str) -> Iterator[None]:
    """Put names before the message of an error that passes; those that are empty are left out."""
    try:
        yield
    except HostError as error:
        error.args = (": ".join(filter(None, (*names, str(error)))),)
        raise
