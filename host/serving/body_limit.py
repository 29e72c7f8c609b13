"""Limit of the size of requests, so that none of them fills the memory."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MAX_BODY", "BodyLimit"]

#: Bytes of the longest body: many times the text of a long context.
MAX_BODY = 8 << 20


class BodyLimit:
    """Application around another one, which refuses long bodies with status 413.

    Parameters
    ----------
    app : ASGIApp
        The other application. It reads the bodies of requests, and so gets the error.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or another event of the protocol."""
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise HTTPException(413, f"the body has more than {MAX_BODY} bytes")
            return message

        await self._app(scope, counted, send)
