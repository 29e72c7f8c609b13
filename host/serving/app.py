"""HTTP server with the API of OpenAI: models, chat completions, completions, health."""

import time
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from tritstream.host.model.generation import Phase
from tritstream.host.model.prompts import context_length
from tritstream.host.serving.api_answers import ChatAnswer, TextAnswer
from tritstream.host.serving.api_errors import add_handlers
from tritstream.host.serving.api_requests import ChatRequest, TextRequest
from tritstream.host.serving.body_limit import BodyLimit
from tritstream.host.serving.delivery import deliver
from tritstream.host.serving.service import Service

__all__ = ["make_app"]


def make_app(service: Service) -> FastAPI:
    """Return the application: an ASGI application that a server such as uvicorn runs."""
    app = FastAPI(title="tritstream", summary="A packed model with the API of OpenAI")
    add_handlers(app)
    app.add_middleware(BodyLimit)
    app.include_router(_models(service))
    app.include_router(_completions(service))

    @app.get("/health")
    async def health() -> Response:
        found = service.engine.figures()
        body = {"status": "failing" if found.fault else "ok", "fault": found.fault,
                "model": service.name, "parallel": service.engine.parallel,
                "running": found.running, "waiting": found.waiting, "finished": found.finished,
                "cancelled": found.cancelled, "failed": found.failed,
                "prefill": _phase(found.prefill), "decode": _phase(found.decode)}
        return JSONResponse(body, 503 if found.fault else 200)

    return app


def _models(service: Service) -> APIRouter:
    routes = APIRouter(prefix="/v1", dependencies=[Depends(service.check_access)])
    model = {"id": service.name, "object": "model", "created": int(time.time()),
             "owned_by": "tritstream", "max_model_len": context_length(service.model.config)}

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @routes.get("/models/{name:path}")
    async def one(name: str) -> dict[str, Any]:
        service.check_model(name)
        return model

    return routes


def _completions(service: Service) -> APIRouter:
    routes = APIRouter(prefix="/v1", dependencies=[Depends(service.check_access)])

    @routes.post("/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        return await deliver(
            service.engine, service.chat_job(body), request,
            ChatAnswer(service.name, body.wants_usage()), bool(body.stream))

    @routes.post("/completions")
    async def text(body: TextRequest, request: Request) -> Response:
        return await deliver(
            service.engine, service.text_job(body), request,
            TextAnswer(service.name, body.wants_usage()), bool(body.stream))

    return routes


def _phase(phase: Phase) -> dict[str, Any]:
    stats = phase.cost.stats
    return {"tokens": phase.tokens, "device_cycles": stats.cycles,
            "device_cycles_per_token": stats.cycles / phase.tokens if phase.tokens else 0.0}
