"""Stream source and sink for testbenches, with stalls."""

import numpy as np

__all__ = ["coin", "get", "never", "put"]


def never():
    """Never stall."""
    return False


def coin(seed, share=0.4):
    """Return a function that stalls at random in ``share`` of the cycles."""
    rng = np.random.default_rng(seed)
    return lambda: rng.random() < share


async def put(ctx, stream, payloads, stalls=never):
    """Send each payload; return when the last one is taken."""
    for payload in payloads:
        while stalls():
            await ctx.tick()
        ctx.set(stream.payload, payload)
        ctx.set(stream.valid, 1)
        await ctx.tick().until(stream.ready)
        ctx.set(stream.valid, 0)


async def get(ctx, stream, count, stalls=never):
    """Take ``count`` payloads, and return them.

    Raises AssertionError if an offered payload changes or is withdrawn before it is taken.
    """
    payloads = []
    while len(payloads) < count:
        offered = None
        while stalls():
            await ctx.tick()
            now = ctx.get(stream.payload) if ctx.get(stream.valid) else None
            if offered is not None:
                assert now == offered, f"payload {offered!r} was withdrawn, {now!r} stands there"
            offered = now
        ctx.set(stream.ready, 1)
        payload, = await ctx.tick().sample(stream.payload).until(stream.valid)
        ctx.set(stream.ready, 0)
        if offered is not None:
            assert payload == offered, f"payload {offered!r} was withdrawn, {payload!r} was taken"
        payloads.append(payload)
    return payloads
