# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the routes of the Open Inference Protocol do, on KServe's application.

KServe's own routes read and validate a body before anything can refuse it, at thirty times its size
in memory, and answer mistakes of clients with tracebacks; these do neither. A request passes, in
this order: who asks, whether the model is here, how large the body is, memory for it, the body.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from . import admission, metrics, protocol, truth
from .access import Clients
from .engine import DataError, EngineError
from .model import Answer
from .protocol import ProtocolError
from .repository import ReleaseRepository
from .samples import MOST_ANSWER, Samples

logger = logging.getLogger("kserve")
EXTENSIONS = ["binary_tensor_data"]
SUBJECT_HEADER = "x-mlops-client-subject"
TRIM_FROM = 8 * admission.MIB
NO_MEMORY = "The server has no memory left for this request now; ask again."


class Journal:
    """Writes at most one line a second, whatever clients do; says how many were left out."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._next = 0.0
        self._left_out = 0

    def write(self, sentence: str) -> None:
        """Write a line, or count it."""
        if self._now() < self._next:
            self._left_out += 1
            return
        more = f" ({self._left_out} more since the last line)" if self._left_out else ""
        self._left_out, self._next = 0, self._now() + 1.0
        logger.error("%s%s", sentence[:500].replace("\n", " "), more)


def place_of(error: BaseException) -> str:
    """Name the line of ours, or the last one, in which an error was raised."""
    trace, where = error.__traceback__, "?"
    while trace is not None:
        where = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return where


def in_json(status: int, content: Any, headers: dict[str, str] | None = None) -> Response:
    """Make an answer in JSON."""
    return Response(orjson.dumps(content), status, headers, "application/json")


def failure(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """Make an error as the protocol has it."""
    return in_json(status, {"error": sentence}, headers)


class Outermost:
    """Counts every answer, and lets no exception reach uvicorn, which would close the connection.

    A connection that closes while nginx hands it the next request costs another client an error.
    """

    def __init__(self, app: Any, journal: Journal) -> None:
        self.app = app
        self.journal = journal

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def counted(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                metrics.RESPONSES.labels(str(message["status"])).inc()
            await send(message)

        try:
            await self.app(scope, receive, counted)
        except ClientDisconnect:
            return
        except Exception as error:  # the last place that can answer
            self.journal.write(f"{type(error).__name__} in {place_of(error)}: {error}")
            if started:
                raise
            answer = failure(500, "The server failed; its journal says more.")
            await answer(scope, receive, counted)


@dataclass(frozen=True)
class Limits:
    """How large a request may be, and how much the server may need."""

    request_max: int
    memory_max: int


@dataclass
class Body:
    """A body that was read, and the memory set aside for it."""

    data: bytes
    lease: admission.Lease


class LeasedResponse(Response):
    """Keeps the memory of a request set aside until its answer is on its way."""

    lease: admission.Lease

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.lease.release()


class Service:
    """What the routes do."""

    def __init__(
        self,
        repository: ReleaseRepository,
        clients: Clients,
        limits: Limits,
        lanes: admission.Lanes,
        executor: ThreadPoolExecutor,
        version: str,
        samples: Samples | None = None,
    ) -> None:
        self.samples = samples
        self.repository = repository
        self.clients = clients
        self.limits = limits
        self.lanes = lanes
        self.executor = executor
        self.version = version
        self.journal = Journal()
        metrics.MEMORY.set_function(lambda: lanes.total)
        metrics.MEMORY_USED.set_function(lambda: lanes.used)
        metrics.WAITING.set_function(lambda: lanes.waiting)
        for name in clients.names:
            for outcome in metrics.OUTCOMES:
                metrics.CLIENTS.labels(name, outcome)

    # -- who asks, and how much ---------------------------------------------------------------

    def client(self, request: Request) -> str:
        """Name the client of a request, or refuse it."""
        name = self.clients.identify(
            request.headers.get("authorization"), request.headers.get(SUBJECT_HEADER)
        )
        if name is None:
            raise ProtocolError(
                401,
                "This server answers declared clients only: send the token as "
                "'Authorization: Bearer <name>.<secret>', or use the client's certificate.",
                www_authenticate="Bearer",
            )
        return name

    async def _lease(self, size: int) -> admission.Lease:
        """Set memory aside for a body of this size."""
        lane = self.lanes.small if size <= protocol.SMALL else self.lanes.large
        try:
            return await lane.acquire(protocol.worst_cost(size))
        except admission.Busy:
            metrics.TURNED_AWAY.inc()
            raise ProtocolError(503, NO_MEMORY, retry_after="1") from None

    @staticmethod
    async def _read(request: Request, limit: int, most: int) -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise protocol.too_large(most)
            parts.append(part)
        return b"".join(parts)

    @contextlib.asynccontextmanager
    async def _unpacked(
        self, request: Request, packed: str, size: int, most: int
    ) -> AsyncIterator[Body]:
        """Read a compressed body; how large it is shows only when it is there."""
        body = Body(b"", await self._lease(protocol.SMALL if size <= protocol.SMALL else most))
        try:
            data = await self._read(request, size, most)
            if size <= protocol.SMALL:
                try:
                    body.data = protocol.inflate(data, packed, min(most, protocol.SMALL))
                except ProtocolError as error:
                    if error.status != 413 or most <= protocol.SMALL:
                        raise
                    body.lease.release()
                    body.lease = await self._lease(most)
            if not body.data:
                body.data = protocol.inflate(data, packed, most)
            del data
            yield body
        except BaseException:
            body.lease.release()
            raise

    @contextlib.asynccontextmanager
    async def _plain(self, request: Request, size: int, most: int) -> AsyncIterator[Body]:
        body = Body(b"", await self._lease(size))
        try:
            body.data = await self._read(request, size, most)
            yield body
        except BaseException:
            body.lease.release()
            raise

    def _body(self, request: Request, model: Any) -> contextlib.AbstractAsyncContextManager[Body]:
        """Read a body within memory set aside for it; whoever takes it gives the memory back."""
        packed = protocol.encoding(request.headers.get("content-encoding"))
        most = min(self.limits.request_max, model.request_max)
        size = protocol.content_length(request.headers.get("content-length"), most)
        size = most if size is None else size
        return (
            self._unpacked(request, packed, size, most)
            if packed
            else self._plain(request, size, most)
        )

    def _weigh(self, body: Body, length: str | None, strings: bool) -> None:
        """Keep only the memory that a body needs for what stands in it."""
        head, _rest = protocol.split(body.data, length)
        needed = protocol.cost(body.data, len(head), strings)
        if len(body.data) > protocol.SMALL and needed > self.lanes.large.total:
            raise ProtocolError(
                413,
                "The request would take more memory than the server has for one; send fewer "
                "numbers at a time, or in the binary form.",
            )
        body.lease.shrink(needed)

    # -- the routes ---------------------------------------------------------------------------

    async def infer(self, request: Request, name: str, version: str | None = None) -> Response:
        """Answer a prediction of a client."""
        return await self._predict(request, name, version, self.client(request))

    async def probe(self, request: Request, name: str) -> Response:
        """Answer the device itself, which asks in place of clients: it counts as theirs do."""
        return await self._predict(request, name, None, None)

    async def _predict(
        self, request: Request, name: str, version: str | None, client: str | None
    ) -> Response:
        model = self.repository.find(name, version)
        outcome, took, heavy, bucket = "error", None, False, ""
        try:
            async with self._body(request, model) as body:
                length = request.headers.get(protocol.LENGTH_HEADER)
                self._weigh(body, length, model.takes_strings)
                heavy = body.lease.amount > TRIM_FROM
                started = time.perf_counter()
                answer = await asyncio.get_running_loop().run_in_executor(
                    self.executor,
                    functools.partial(
                        model.answer,
                        body.data,
                        length,
                        str(uuid.uuid4()),
                        protocol.accepted(request.headers.get("accept-encoding")),
                        # What the device asks itself is always the same.
                        watched=client is not None,
                        golden=protocol.GOLDEN_HEADER in request.headers,
                    ),
                )
                took = time.perf_counter() - started
                outcome, bucket = "ok", answer.bucket
                return self._respond(answer, body.lease)
        except DataError as error:
            outcome = "invalid"
            raise ProtocolError(400, str(error)) from None
        except ProtocolError as error:
            outcome = "" if error.status == 503 else "invalid"
            raise
        except (ClientDisconnect, asyncio.CancelledError):
            outcome = ""
            raise
        except EngineError as error:
            self.journal.write(f"{model.name} version {model.version}: {error}")
            raise ProtocolError(500, str(error)) from None
        finally:
            if heavy:
                asyncio.get_running_loop().call_later(0.1, admission.trim)
            if outcome:
                self.repository.metrics.count(model.name, model.version, outcome, took, bucket)
                if self.clients.required and client is not None:
                    metrics.CLIENTS.labels(client, outcome).inc()

    async def rehearse(self, request: Request, name: str) -> Response:
        """Answer the device itself, which tries a release: nobody's request, so nothing counts."""
        model = self.repository.find(name)
        async with self._body(request, model) as body:
            length = request.headers.get(protocol.LENGTH_HEADER)
            self._weigh(body, length, model.takes_strings)
            try:
                answer = await asyncio.get_running_loop().run_in_executor(
                    self.executor,
                    functools.partial(model.answer, body.data, length, str(uuid.uuid4()), ""),
                )
            except DataError as error:
                raise ProtocolError(400, str(error)) from None
            except EngineError as error:
                raise ProtocolError(500, str(error)) from None
            return self._respond(answer, body.lease)

    async def learn(self, request: Request, name: str) -> Response:
        """Take what was right of earlier predictions, by the ids of their requests."""
        self.client(request)
        model = self.repository.find(name)
        if model.truths is None:
            raise ProtocolError(
                404, "This server remembers no predictions; set model_serving_truth_requests."
            )
        async with self._body(request, model) as body:
            try:
                table = request.headers.get("content-type", "").startswith(truth.CSV)
                entries = (
                    truth.entries_of_csv(body.data)
                    if table
                    else truth.entries_of(orjson.loads(body.data))
                )
            except truth.TruthError as error:
                raise ProtocolError(400, str(error)) from None
            except ValueError as error:
                raise ProtocolError(400, f"The body is not JSON: {error}.") from None
            finally:
                body.lease.release()
            known, unknown = model.truths.learn(entries)
            return in_json(200, {"known": known, "unknown": unknown})

    async def fetch_samples(self, request: Request) -> Response:
        """Hand out requests that were kept, to the control host alone."""
        if self.samples is None:
            raise ProtocolError(404, "This server keeps no requests; see mlops_models[].sample.")
        asks = request.headers.get("authorization")
        if self.samples.clients.identify(asks, None) is None:
            raise ProtocolError(401, "Only the control host may ask for requests that were kept.")
        try:
            said = orjson.loads(await self._read(request, MOST_ANSWER, MOST_ANSWER))
            done = str(said.get("done") or "")
            stored = {str(name): int(count) for name, count in (said.get("stored") or {}).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise ProtocolError(400, f"The body is not what a collector says: {error}.") from None
        batch, lines = await asyncio.to_thread(self.samples.fetch, done, stored)
        return Response(lines, 200, {"x-mlops-batch": batch}, "application/x-ndjson")

    @staticmethod
    def _respond(answer: Answer, lease: admission.Lease) -> Response:
        headers = {"vary": "accept-encoding"}
        kind = "application/json"
        if answer.json_length is not None:
            headers[protocol.LENGTH_HEADER] = str(answer.json_length)
            kind = "application/octet-stream"
        if answer.encoding:
            headers["content-encoding"] = answer.encoding
        response = LeasedResponse(answer.body, 200, headers, kind)
        response.lease = lease
        return response

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Keep large requests out while a model comes or goes.

        For a while two versions are in memory, and what the server needs at rest is measured.
        """
        try:
            lease = await self.lanes.large.acquire(self.lanes.large.total, first=True)
        except admission.Busy:
            raise ProtocolError(503, NO_MEMORY, retry_after="1") from None
        try:
            yield
        finally:
            lease.release()

    def about(self) -> dict[str, Any]:
        """What the server is and can do."""
        return {"name": "kserve", "version": self.version, "extensions": EXTENSIONS}

    def ready(self) -> Response:
        """Empty before the first release is ready; a release that cannot be served is not."""
        unready = self.repository.unready()
        if unready:
            return failure(
                503, f"Not served: {', '.join(name or 'a release' for name in unready)}."
            )
        return in_json(200, {"ready": True})
