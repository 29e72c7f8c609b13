"""Count of round trips, for any transport."""

__all__ = ["RoundTrips"]


class RoundTrips:
    """Mixin before a transport, that counts how often answers are awaited after new requests.

    Members
    -------
    round_trips : int
        Round trips so far.
    """

    round_trips, _asked = 0, False

    async def send(self, data):
        self._asked = True
        await super().send(data)

    async def recv(self, count):
        self.round_trips += self._asked
        self._asked = False
        return await super().recv(count)
