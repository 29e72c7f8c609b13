"""Loads of activations and scales, sent only if the device does not hold them already."""

import numpy as np

from tritstream.host.protocol.exchange import Exchange
from tritstream.hw.protocol import Opcode

__all__ = ["Loads"]


class Loads:
    """Activations and scales that a device holds after the requests under way.

    Parameters
    ----------
    exchange : Exchange
        Exchange with the device.
    """

    def __init__(self, exchange: Exchange):
        self._exchange = exchange
        self._activations: dict[int, bytes] = {}
        self._scales: bytes | None = None

    def forget(self) -> None:
        """Assume that the device holds nothing. Call it whenever a request failed."""
        self._activations.clear()
        self._scales = None

    async def activations(self, rows: np.ndarray) -> None:
        """Send int8 (B, K) for columns 0..B-1, as far as the columns hold other vectors."""
        for column, row in enumerate(rows):
            data = row.tobytes()
            if self._activations.get(column) != data:
                self._activations[column] = data
                await self._exchange.ask(Opcode.ACTIVATIONS, column, len(data), data)

    async def scales(self, data: bytes) -> None:
        """Send a payload of SCALES, unless the device holds the same."""
        if self._scales != data:
            self._scales = data
            await self._exchange.ask(Opcode.SCALES, 0, 0, data)
