# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The paths of the protocol, what the description says of each, and the form of every error."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from kserve.protocol.rest.v2_datamodels import (
    InferenceRequest,
    InferenceResponse,
    ListModelsResponse,
    ModelMetadataResponse,
    ModelReadyResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from starlette.exceptions import HTTPException
from starlette.responses import Response

from . import truth
from .application import Outermost, Service, failure
from .model import OnnxModel
from .protocol import ProtocolError


class Endpoints:
    """What each route calls; the parameters are named as they stand in the paths.

    No docstrings below: FastAPI shows them to clients.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    async def metadata(self, request: Request) -> Any:
        self.service.client(request)
        return self.service.about()

    async def live(self) -> Any:
        return {"live": True}

    async def ready(self) -> Response:
        return self.service.ready()

    async def models(self, request: Request) -> Any:
        self.service.client(request)
        return {"models": sorted(self.service.repository.models)}

    async def model_metadata(
        self, request: Request, model_name: str, model_version: str | None = None
    ) -> Any:
        self.service.client(request)
        model: OnnxModel = self.service.repository.find(model_name, model_version)
        return model.metadata()

    async def model_ready(
        self, request: Request, model_name: str, model_version: str | None = None
    ) -> Any:
        self.service.client(request)
        return {"name": self.service.repository.find(model_name, model_version).name, "ready": True}

    async def infer(
        self, request: Request, model_name: str, model_version: str | None = None
    ) -> Response:
        return await self.service.infer(request, model_name, model_version)

    async def learn(self, request: Request, model_name: str) -> Response:
        return await self.service.learn(request, model_name)

    async def samples(self, request: Request) -> Response:
        return await self.service.fetch_samples(request)

    async def load(self, model_name: str) -> Any:
        async with self.service.alone():
            await self.service.repository.load(model_name)
        return {"name": model_name, "load": True}

    async def unload(self, model_name: str) -> Any:
        async with self.service.alone():
            await self.service.repository.unload(model_name)
        return {"name": model_name, "unload": True}

    async def rehearse(self, request: Request, model_name: str) -> Response:
        return await self.service.rehearse(request, model_name)

    async def probe(self, request: Request, model_name: str) -> Response:
        return await self.service.probe(request, model_name)

    async def release(self) -> Any:
        return self.service.repository.describe()


def add_routes(app: FastAPI, service: Service) -> None:
    """Put the routes onto the application; what is for the device alone is not described."""
    errors: dict[int | str, Any] = {
        code: {
            "description": text,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["error"],
                        "properties": {"error": {"type": "string"}},
                    }
                }
            },
        }
        for code, text in {
            400: "The request does not fit the protocol or the model.",
            401: "This server asks who calls, and the request does not say.",
            404: "There is no such model or version here.",
            413: "The request is too large.",
            415: "The body is compressed in another way than gzip or deflate.",
            429: "Too many requests of this client at a time.",
            503: "The server is not ready, or has no memory for the request now.",
        }.items()
    }

    def some(*codes: int) -> dict[int | str, Any]:
        return {code: errors[code] for code in codes}

    public = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    at = Endpoints(service)
    request = InferenceRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = request.pop("$defs", {})
    body = {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": request},
                "application/octet-stream": {
                    "schema": {
                        "type": "string",
                        "format": "binary",
                        "description": "JSON of the length in Inference-Header-Content-Length, "
                        "then the tensors with binary_data_size, little-endian.",
                    }
                },
            },
        }
    }
    public.add_api_route(
        "", at.metadata, response_model=ServerMetadataResponse, responses=some(401, 429)
    )
    public.add_api_route("/health/live", at.live, response_model=ServerLiveResponse)
    public.add_api_route(
        "/health/ready",
        at.ready,
        response_model=None,
        responses={200: {"model": ServerReadyResponse}, **some(503)},
    )
    public.add_api_route(
        "/models", at.models, response_model=ListModelsResponse, responses=some(401, 429)
    )
    for path in ("/models/{model_name}", "/models/{model_name}/versions/{model_version}"):
        public.add_api_route(
            path,
            at.model_metadata,
            response_model=ModelMetadataResponse,
            responses=some(401, 404, 429, 503),
        )
        public.add_api_route(
            f"{path}/ready",
            at.model_ready,
            response_model=ModelReadyResponse,
            responses=some(401, 404, 429, 503),
        )
        public.add_api_route(
            f"{path}/infer",
            at.infer,
            methods=["POST"],
            response_model=None,
            responses={200: {"model": InferenceResponse}, **errors},
            openapi_extra=body,
        )
    public.add_api_route(
        "/models/{model_name}/truth",
        at.learn,
        methods=["POST"],
        response_model=None,
        responses=some(400, 401, 404, 413, 415, 429, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": truth.SCHEMA},
                    truth.CSV: {"schema": {"type": "string"}},
                },
            }
        },
    )
    app.include_router(public)
    app.add_api_route(
        "/v2/samples", at.samples, methods=["POST"], response_model=None, include_in_schema=False
    )
    app.add_api_route("/release", at.release, response_model=None, tags=["Releases"])
    inner = APIRouter(prefix="/v2/repository/models", include_in_schema=False)
    inner.add_api_route("/{model_name}/load", at.load, methods=["POST"])
    inner.add_api_route("/{model_name}/unload", at.unload, methods=["POST"])
    inner.add_api_route("/{model_name}/infer", at.rehearse, methods=["POST"], response_model=None)
    inner.add_api_route("/{model_name}/probe", at.probe, methods=["POST"], response_model=None)
    app.include_router(inner)
    describe(app, parts)


def describe(app: FastAPI, parts: dict[str, Any]) -> None:
    """Have the description name what is there: FastAPI's own form of an invalid request is not."""
    original = app.openapi

    def described() -> dict[str, Any]:
        document = original()
        schemas = document["components"]["schemas"]
        schemas.update(parts)
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        return document

    app.openapi = described  # type: ignore[method-assign]


def add_handlers(app: FastAPI, service: Service) -> None:
    """Answer every error in the protocol's form; a client's mistake writes nothing anywhere."""

    async def refused(_request: Request, error: Any) -> Response:
        return failure(error.status, str(error), error.headers)

    async def of_starlette(_request: Request, error: Any) -> Response:
        sentence = {
            404: "There is nothing at this path; /openapi.json says what there is.",
            405: "This path does not take this method; /openapi.json says what it takes.",
        }.get(error.status_code, str(error.detail))
        return failure(error.status_code, sentence, error.headers)

    async def invalid(_request: Request, error: Any) -> Response:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        return failure(400, f"The request is not valid: {'; '.join(problems)[:500]}.")

    app.add_exception_handler(ProtocolError, refused)
    app.add_exception_handler(HTTPException, of_starlette)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_middleware(Outermost, journal=service.journal)
