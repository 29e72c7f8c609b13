"""Hierarchy of the errors between the driver and a device.

Invalid arguments raise :class:`ValueError` or :class:`TypeError` instead, before anything is sent.
"""

__all__ = [
    "BadAnswer",
    "DeviceError",
    "HostError",
    "TransportClosed",
    "TransportError",
    "TransportTimeout",
    "naming",
]


class HostError(Exception):
    """Base of every error of this package; the message is one line."""


class TransportError(HostError):
    """The bytes could not be transferred."""


class TransportTimeout(TransportError):
    """The device stayed silent; the driver retries."""


class TransportClosed(TransportError):
    """The device is gone (unplugged, closed); a retry is useless."""


class BadAnswer(HostError):
    """A response is damaged or violates the protocol; the driver retries."""


class DeviceError(HostError):
    """The device refused a request, does not fit, or did not respond in any attempt.

    Members
    -------
    code : int or None
        Error code of the protocol, or None if the error does not come from the device.
    """

    def __init__(self, message: str, code: int | None = None):
        super().__init__(message)
        self.code = code


class naming:
    """Context that prefixes the message of a :class:`HostError` with names, except empty ones."""

    def __init__(self, *names: object):
        self._names = names

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, HostError):
            error.args = (": ".join(filter(None, map(str, (*self._names, error)))),)
