"""The contract's server, asked as any ASGI server would."""

import asyncio
import json
import threading

import pytest
from contract_server import TOKEN, asked
from fake_engine import FakeEngine

from spamd.fleet.app import ScoreApp
from spamd.inference.batching import Batcher
from spamd.inference.contract import MAX_REQUEST_BYTES, PATH, ScoreRequest, encode_request

AUTHORIZED = [(b"authorization", f"Bearer {TOKEN}".encode())]


def _scope(*, method="POST", path=PATH, headers=AUTHORIZED, **more):
    """A request's scope."""
    return {"type": "http", "method": method, "path": path, "headers": headers} | more


def _body(*texts, checkpoint="one", milliseconds=10_000):
    """A request's body."""
    return encode_request(ScoreRequest(checkpoint, milliseconds, texts))


def _app(engine=None, **options):
    """The application around a fake engine."""
    return ScoreApp(Batcher(engine or FakeEngine(), **options), TOKEN)


async def test_scores_in_the_order_of_the_texts():
    """A request is answered with checkpoint and scores, one a text, as JSON of a stated length."""
    status, headers, body = await asked(_app(FakeEngine(score=0.25)), _scope(), [_body("a", "bcd")])

    rows = [{"score": 0.25, "num_tokens": number, "is_truncated": False} for number in (1, 3)]
    assert (200, {"checkpoint": "one", "scores": rows}) == (status, json.loads(body))
    assert {b"content-type": b"application/json", b"content-length": str(len(body)).encode()} == dict(headers)


async def test_a_body_may_come_in_pieces_and_below_a_mount():
    """However the server cuts a body, and wherever it mounts the application, the answer is the same."""
    body = _body("a")
    status, _, _ = await asked(_app(), _scope(path=f"/spam{PATH}", root_path="/spam"), [body[:7], body[7:9], body[9:]])

    assert 200 == status


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", TOKEN.encode())],
        [(b"authorization", f"Bearer {TOKEN}x".encode())],
        [(b"authorization", f"Bearer {TOKEN[:-1]}".encode())],
        [(b"authorization", b"\xff\xfe")],
    ],
)
async def test_without_the_token_nothing_is_read(headers):
    """Whoever shows no token, or another one, is told 401 before a byte of the body is read."""
    sent = []

    async def receive():
        raise AssertionError("the body was read")

    async def send(event):
        sent.append(event)

    await _app()(_scope(headers=headers), receive, send)

    assert 401 == sent[0]["status"]
    assert (b"www-authenticate", b"Bearer") in sent[0]["headers"]
    assert TOKEN.encode() not in sent[1]["body"]


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (_scope(path="/"), 404),
        (_scope(path=f"{PATH}/"), 404),
        (_scope(path="/v2/score"), 404),
        (_scope(method="GET"), 405),
        (_scope(method="PUT", headers=[]), 405),
    ],
)
async def test_other_paths_and_methods(scope, status):
    """There is one path, and one method."""
    assert status == (await asked(_app(), scope, [_body("a")]))[0]


@pytest.mark.parametrize("body", [b"", b"nonsense very-secret", b"[]", b'{"texts": ["very-secret"]}', b"\xff" * 100])
async def test_malformed_requests(body):
    """What is no request is told 400 with a reason that quotes nothing of it."""
    status, _, answer = await asked(_app(), _scope(), [body])

    assert 400 == status
    assert json.loads(answer)["error"].endswith(".")
    assert b"secret" not in answer


async def test_another_checkpoint_is_named():
    """A request for another checkpoint is told 409 and which one is loaded, and nothing is scored."""
    engine = FakeEngine("two")
    status, _, body = await asked(_app(engine), _scope(), [_body("a")])

    assert (409, "two", []) == (status, json.loads(body)["checkpoint"], engine.batches)


async def test_a_checkpoint_that_changes_meanwhile():
    """Scores of a checkpoint that came while the request waited are not passed off as those of the one asked for."""
    engine = FakeEngine("one", gate=threading.Event())
    batcher = Batcher(engine, max_batch_tokens=1)
    asking = asyncio.create_task(asked(ScoreApp(batcher, TOKEN), _scope(), [_body("aa", "bb")]))
    assert await asyncio.to_thread(engine.started.wait, 10)
    batcher.swap(FakeEngine("two"))
    engine.gate.set()
    status, _, body = await asking

    assert (409, "another checkpoint was loaded.") == (status, json.loads(body)["error"])


@pytest.mark.parametrize(
    ("length", "num_chunks"),
    [(b"99999999999999999999999", 1), (str(MAX_REQUEST_BYTES + 1).encode(), 1), (b"", 1000), (b"5", 1000)],
)
async def test_a_request_that_is_too_long(length, num_chunks):
    """A length that is announced is believed where it is too long; one that is not, or falsely, is found out in time."""
    headers = [*AUTHORIZED, *([(b"content-length", length)] if length else [])]
    status, _, _ = await asked(_app(), _scope(headers=headers), [b"x" * 10_000] * num_chunks)

    assert 413 == status


async def test_a_request_that_does_not_come():
    """A body that drips is given up, and one that breaks off is no request."""
    sent = []

    async def drip():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def leave():
        return {"type": "http.disconnect"}

    async def send(event):
        sent.append(event)

    app = ScoreApp(Batcher(FakeEngine()), TOKEN, body_seconds=0.05)
    await app(_scope(), drip, send)
    await app(_scope(), leave, send)

    assert [408, 400] == [event["status"] for event in sent if event["type"] == "http.response.start"]


async def test_no_score_before_the_deadline_is_503():
    """Where the deadline passes, the client is told to come back, and what waits for it leaves the queue."""
    engine = FakeEngine(gate=threading.Event())
    app = _app(engine, max_batch_tokens=1)
    status, headers, _ = await asked(app, _scope(), [_body("a", "b", milliseconds=50)])
    engine.gate.set()
    again = await asked(app, _scope(), [_body("c")])

    assert (503, b"1") == (status, dict(headers)[b"retry-after"])
    assert 200 == again[0]
    assert [["a"], ["c"]] == engine.batches


async def test_a_full_queue_is_503():
    """More texts than may wait are told to come back, all of the request's, and those that wait are served."""
    engine = FakeEngine(gate=threading.Event())
    app = _app(engine, max_waiting=2)
    first = asyncio.create_task(asked(app, _scope(), [_body("a")]))
    assert await asyncio.to_thread(engine.started.wait, 10)
    second = asyncio.create_task(asked(app, _scope(), [_body("b")]))
    await asyncio.sleep(0)
    status, headers, _ = await asked(app, _scope(), [_body("c", "d", "e")])
    engine.gate.set()

    assert (503, b"1") == (status, dict(headers)[b"retry-after"])
    assert [200, 200] == [(await first)[0], (await second)[0]]


async def test_a_failing_model_is_500():
    """A model that fails says so to the client, and no more than that."""
    status, _, body = await asked(_app(), _scope(), [_body("fail")])

    assert (500, {"error": "the model failed."}) == (status, json.loads(body))


async def test_the_servers_start_and_end():
    """An ASGI server that asks for it is told that start and end are complete; a web socket is nothing for us."""
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive():
        return events.pop(0)

    async def send(event):
        sent.append(event["type"])

    await _app()({"type": "lifespan"}, receive, send)
    with pytest.raises(NotImplementedError):
        await _app()({"type": "websocket"}, receive, send)

    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == sent
