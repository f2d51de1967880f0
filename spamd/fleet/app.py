"""The server's side of the contract: an ASGI application that answers with scores of one checkpoint.

Runs under any ASGI server; knows none and needs no library. Batching, the bounded queue and deadlines are `inference.batching`'s;
what the fields are is `inference.contract`'s. docs/fleet.md is the contract in words. Built by `serving`, once a replica.

Security: the token is compared in constant time, before a byte of the body is read; a body is read up to a length and within a
time. Answers say what is wrong with a request and never quote it; nothing of it is logged.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import structlog

from spamd.errors import ScoringError, ScoringTimeout
from spamd.inference.batching import Batcher
from spamd.inference.contract import MAX_REQUEST_BYTES, PATH, ScoreRequest, decode_request, encode_answer, encode_error
from spamd.inference.scored import Scored

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = structlog.get_logger(__name__)

BODY_SECONDS = 10.0
"""How long a client may take to send its request."""

RETRY_AFTER_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client is told.

    Attributes:
        status: HTTP's code.
        body: JSON.
        headers: besides those that every answer has.
    """

    status: HTTPStatus
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class _RefusedError(Exception):
    """A request is not served; carries the answer."""

    def __init__(self, status: HTTPStatus, reason: str, headers: Mapping[str, str] | None = None, **fields: str) -> None:
        super().__init__(reason)
        self.answer = Answer(status, encode_error(reason, **fields), headers or {})


class ScoreApp:
    """Answers with scores.

    Args:
        batcher: scores; its engine's checkpoint is the one that clients must ask for.
        token: what clients must show.
        body_seconds: how long a client may take to send its request.
    """

    def __init__(self, batcher: Batcher, token: str, *, body_seconds: float = BODY_SECONDS) -> None:
        self._batcher = batcher
        self._expected = f"Bearer {token}".encode("ascii")
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the start and the end of the server, as ASGI has it."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise NotImplementedError(f"no {scope['type']} here")
        try:
            answer = await self._answer(scope, receive)
        except _RefusedError as refusal:
            answer = refusal.answer
        lines = {"content-type": "application/json", "content-length": str(len(answer.body)), **answer.headers}
        headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in lines.items()]
        await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        """Answer a request; raises what it is refused for."""
        if scope["path"].removeprefix(scope.get("root_path", "")) != PATH:
            raise _RefusedError(HTTPStatus.NOT_FOUND, f"only {PATH} is here.")
        if scope["method"] != "POST":
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "only POST is answered.", {"allow": "POST"})
        headers = dict(scope["headers"])
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong.", {"www-authenticate": "Bearer"})
        try:
            request = decode_request(await self._body(headers.get(b"content-length", b""), receive))
        except ValueError as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None
        # Named once: a reload may swap it while scores are awaited.
        loaded = self._batcher.engine.checkpoint
        if request.checkpoint != loaded:
            raise _RefusedError(HTTPStatus.CONFLICT, "another checkpoint is loaded.", checkpoint=loaded)
        return Answer(HTTPStatus.OK, encode_answer(loaded, await self._scores(request)))

    async def _body(self, announced: bytes, receive: Receive) -> bytes:
        """Read a request, if it is not too long and does not take too long."""
        too_long = _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {MAX_REQUEST_BYTES} bytes.")
        # More digits than that would be too long in any case.
        if announced.isdigit() and (len(announced) > len(str(MAX_REQUEST_BYTES)) or int(announced) > MAX_REQUEST_BYTES):
            raise too_long
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    event = await receive()
                    if event["type"] == "http.disconnect":
                        raise _RefusedError(HTTPStatus.BAD_REQUEST, "the request broke off.")
                    body += event.get("body", b"")
                    if len(body) > MAX_REQUEST_BYTES:
                        raise too_long
                    if not event.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise _RefusedError(HTTPStatus.REQUEST_TIMEOUT, f"a request comes within {self._body_seconds:g} seconds.") from None

    async def _scores(self, request: ScoreRequest) -> list[Scored]:
        """Score the texts of a request, all of them or none."""
        deadline = asyncio.get_running_loop().time() + request.deadline_milliseconds / 1000
        asked = [asyncio.ensure_future(self._batcher.score(text, deadline)) for text in request.texts]
        try:
            scores = [served.scored for served in await asyncio.gather(*asked)]
        except (ScoringTimeout, asyncio.QueueFull):
            retry = {"retry-after": str(RETRY_AFTER_SECONDS)}
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "no score comes before the deadline.", retry) from None
        except ScoringError as error:
            log.error("no scores", reason=str(error))  # noqa: TRY400  the sentence says it all
            raise _RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "the model failed.") from None
        finally:
            # Whoever is told to come back takes no place in the queue.
            for one in asked:
                one.cancel()
        if any(one.checkpoint != request.checkpoint for one in scores):
            raise _RefusedError(HTTPStatus.CONFLICT, "another checkpoint was loaded.", checkpoint=scores[0].checkpoint)
        return scores


async def _live(receive: Receive, send: Send) -> None:
    """Go through the server's start and end, at which there is nothing to do."""
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return
