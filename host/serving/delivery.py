"""Delivery of answers: whole, or as server-sent events; a client that leaves cancels its job."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tritstream.host.model.generation import Generation
from tritstream.host.serving.api_answers import ChatAnswer, TextAnswer
from tritstream.host.serving.api_errors import of_generation
from tritstream.host.serving.engine import Engine, Event, Job

__all__ = ["deliver"]


async def deliver(
    engine: Engine, job: Job, request: Request, answer: ChatAnswer | TextAnswer, in_parts: bool,
) -> Response:
    """Have a job done, and return its answer.

    ``in_parts`` streams the answer as server-sent events. Raises :class:`.ApiError` if the job
    fails before there is an answer; a later error is an event of the stream.
    """
    events = _events(engine, job)
    if in_parts:
        return StreamingResponse(_stream(events, answer), media_type="text/event-stream",
                                 headers={"Cache-Control": "no-cache"})
    work, gone = asyncio.create_task(_result(events)), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        # The client that is gone gets no answer.
        return JSONResponse(answer.whole(await work)) if work.done() else Response(None, 499)
    except Exception as error:
        raise of_generation(error) from error
    finally:
        work.cancel()
        gone.cancel()


async def _events(engine: Engine, job: Job) -> AsyncGenerator[str | Generation]:
    """Yield the parts of a text, then the result; an end before cancels the job."""
    loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()

    def receive(event: Event) -> None:
        with suppress(RuntimeError):            # the loop has ended
            loop.call_soon_threadsafe(events.put_nowait, event)

    job.receive = receive
    try:
        engine.submit(job)
        while True:
            event = await events.get()
            if isinstance(event, Exception):
                raise event
            yield event
            if isinstance(event, Generation):
                return
    finally:
        job.is_cancelled = True


async def _result(events: AsyncGenerator[str | Generation]) -> Generation:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Generation):
                return event
    raise RuntimeError("a job has ended without a result")


async def _gone(request: Request) -> None:
    """Wait until the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _stream(
    events: AsyncGenerator[str | Generation], answer: ChatAnswer | TextAnswer,
) -> AsyncIterator[str]:
    """Yield server-sent events."""
    try:
        async with aclosing(events):
            for part in answer.first():
                yield _line(part)
            async for event in events:
                for part in [answer.part(event)] if isinstance(event, str) else answer.last(event):
                    yield _line(part)
    except Exception as error:
        # The status is sent already, so the error is an event.
        yield _line(of_generation(error).body())
        return
    yield "data: [DONE]\n\n"


def _line(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
