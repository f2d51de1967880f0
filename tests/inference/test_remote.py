"""The client of a fleet, against the real application and against servers that mean no good."""

import json
import threading
import time

import pytest
from certificates import Authority
from contract_server import TOKEN, ContractServer, Peer, saying
from fake_engine import FakeEngine

from spamd.errors import ConfigError
from spamd.inference import remote
from spamd.inference.contract import MAX_ANSWER_BYTES
from spamd.inference.remote import NoScores, RemoteScorer
from spamd.inference.scored import Scored

GOOD = json.dumps({"checkpoint": "one", "scores": [{"score": 0.5, "num_tokens": 1, "is_truncated": False}]}).encode()
PATIENT_SECONDS = 30.0
"""A time that no sound test needs."""


def _client(url, *, token=TOKEN, seconds=PATIENT_SECONDS, **options):
    """A client."""
    return RemoteScorer(url, token, timeout_seconds=seconds, **options)


def _fails(url, *, seconds=PATIENT_SECONDS, token=TOKEN, checkpoint="one"):
    """Ask for the score of one text, which nobody gives; returns the failure."""
    client = _client(url, seconds=seconds, token=token)
    with pytest.raises(NoScores) as raised:
        client.score(["a"], checkpoint, 0.9)
    client.close()
    assert TOKEN not in str(raised.value)
    return raised.value


def test_scores_come_over_kept_connections():
    """Texts get their scores in order, with the threshold that the client holds, and one connection serves them all."""
    engine = FakeEngine(score=0.25)
    with ContractServer(engine) as server:
        client = _client(server.url)
        scores = [client.score(texts, "one", 0.7) for texts in (["a", "bcd"], ["x"], ["Grüße \ud800"])]
        client.close()

    assert [Scored(0.25, 0.7, "one", number, is_truncated=False) for number in (1, 3)] == scores[0]
    assert (3, 1) == (server.requests, server.connections)
    assert {"a", "bcd", "x", "Grüße \ud800"} == {text for batch in engine.batches for text in batch}


def test_a_server_that_comes_back_is_asked_again():
    """A kept connection that the server has closed meanwhile costs nothing."""
    with ContractServer(FakeEngine()) as server:
        client = _client(server.url)
        client.score(["a"], "one", 0.9)
    with ContractServer(FakeEngine(), port=server.port):
        assert 0.5 == client.score(["a"], "one", 0.9)[0].score
        client.close()


def test_a_broken_request_is_made_once_more():
    """Where the connection breaks or a replica fails, one more attempt is made, and only one."""
    answers = [lambda _: None, saying(GOOD), saying(b"", "500 Internal Server Error"), saying(GOOD), *[lambda _: None] * 2]

    def answer(connection):
        answers.pop(0)(connection)

    with Peer(answer) as peer:
        client = _client(peer.url)
        scores = [client.score(["a"], "one", 0.9)[0].score for _ in range(2)]
        num_repeated = client.num_repeated
        failure = _fails(peer.url)
        client.close()

    assert [0.5, 0.5] == scores
    # The end of the kept connection may have been seen before it was used.
    assert num_repeated in {2, 3}
    assert "the connection broke: RemoteDisconnected." == str(failure)
    assert (6, []) == (peer.connections, answers)


def test_the_wrong_token_is_lasting():
    """An answer 401 says so, quotes no token, and is not tried again."""
    with ContractServer(FakeEngine()) as server:
        failure = _fails(server.url, token=TOKEN[::-1])

    assert ("it does not accept our token (401).", True, 1) == (str(failure), failure.is_lasting, server.requests)


def test_another_checkpoint_is_named():
    """An answer 409 names the checkpoint that is loaded."""
    with ContractServer(FakeEngine("two")) as server:
        failure = _fails(server.url)

    assert ("it has loaded checkpoint two and not ours (409).", True) == (str(failure), failure.is_lasting)


def test_a_busy_fleet_says_how_long_it_wants_rest():
    """An answer 503 is not lasting; its Retry-After counts where it is a number of seconds."""
    wishes = {"Retry-After: 7": 7.0, "Retry-After: Fri, 01 Jan 2027 00:00:00 GMT": 0.0, "Retry-After: 99999999999": 0.0}
    failures = []
    for line in wishes:
        with Peer(saying(b"", "503 Service Unavailable", line)) as peer:
            failures.append(_fails(peer.url))

    assert [(wish, False) for wish in wishes.values()] == [(failure.rest_seconds, failure.is_lasting) for failure in failures]
    assert {"it is busy (503)."} == {str(failure) for failure in failures}


@pytest.mark.parametrize(
    ("status", "is_lasting"), [("302 Found", True), ("404 Not Found", True), ("204 No Content", True), ("413 Too Large", False)]
)
def test_other_answers_are_failures(status, is_lasting):
    """A redirection is not followed, and whoever answers something else is no scorer."""
    with ContractServer(FakeEngine()) as server, Peer(saying(b"", status, f"Location: {server.url}/v1/score")) as peer:
        failure = _fails(peer.url)

    assert is_lasting == failure.is_lasting
    assert 0 == server.requests


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        GOOD[:-5],
        GOOD.replace(b"0.5", b"NaN"),
        GOOD.replace(b"0.5", b"1.5"),
        GOOD.replace(b'"one"', b'"two"'),
        b'{"checkpoint":"one","scores":[]}',
    ],
)
def test_answers_that_are_wrong_are_not_used(body):
    """What is no complete, finite, fitting answer is a failure, however good its status."""
    with Peer(saying(body)) as peer:
        failure = _fails(peer.url)

    assert str(failure).startswith("its answer is not to be used: ")


@pytest.mark.parametrize("announced", [b"Content-Length: 999999999999", b"Transfer-Encoding: chunked"])
def test_a_huge_answer_is_not_read(announced):
    """An endless body is given up after as many bytes as an answer may have."""
    sent = []

    def flood(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + announced + b"\r\n\r\n")
        while len(sent) < 1000:
            sent.append(connection.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n"))

    with Peer(flood) as peer:
        failure = _fails(peer.url)

    assert f"its answer is longer than {MAX_ANSWER_BYTES} bytes." == str(failure)
    assert len(sent) < 1000


def _drip(*pieces):
    """What makes a peer send a start, then the same piece again and again, faster than any single wait would notice."""
    start, piece = pieces

    def drip(connection):
        connection.sendall(start)
        # Until the other side has had enough; one that has nothing to send only waits.
        while piece or time.monotonic() < started + 1.0:
            connection.sendall(piece)
            time.sleep(0.02)

    started = time.monotonic()
    return drip


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b""),
    ],
)
def test_a_slow_drip_ends_at_the_deadline(start, piece):
    """The time limit is one for the whole answer: header, body and interim answers, byte by byte or never."""
    started = time.monotonic()
    with Peer(_drip(start, piece)) as peer:
        failure = _fails(peer.url, seconds=0.3)
        took = time.monotonic() - started

    assert "it did not answer in time." == str(failure)
    assert 0.3 <= took < 10


def test_words_that_nobody_asked_for_end_a_connection():
    """What a server sends after an answer is never taken for the next one."""
    good, lie = (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body) for body in (GOOD, GOOD.replace(b"0.5", b"0.0"))
    )
    has_answer, has_lied, is_over = threading.Event(), threading.Event(), threading.Event()

    def answer(connection):
        connection.sendall(good)
        has_answer.wait(10)
        connection.sendall(lie)
        has_lied.set()
        is_over.wait(0.1)

    with Peer(answer) as peer:
        client = _client(peer.url)
        first = client.score(["a"], "one", 0.9)
        kept = list(client._idle)
        has_answer.set()
        assert has_lied.wait(10)
        second = client.score(["a"], "one", 0.9)
        client.close()

    assert [0.5, 0.5] == [first[0].score, second[0].score]
    assert 1 == len(kept)
    assert 2 == peer.connections


def test_nobody_there():
    """A closed port is told at once, and not tried again."""
    with Peer(lambda _: None) as peer:
        pass
    failure = _fails(peer.url)

    assert "it cannot be reached: Connection refused." == str(failure)


def test_a_past_deadline_asks_nobody():
    """Where no time is left, no request is made."""
    with ContractServer(FakeEngine()) as server:
        client = _client(server.url)
        with pytest.raises(NoScores, match="in time"):
            client.score(["a"], "one", 0.9, time.monotonic())

    assert 0 == server.connections


def test_over_tls_the_certificate_counts(tmp_path):
    """With the right authority scores come; a certificate of another one, or for another name, is refused before a word."""
    authority = Authority(tmp_path)
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    failures = []
    with ContractServer(FakeEngine(), tls=authority.server("127.0.0.1")) as server:
        client = _client(server.url, tls_ca=authority.ca_file)
        score = client.score(["a"], "one", 0.9)[0].score
        client.close()
        with pytest.raises(NoScores) as raised:
            _client(server.url, tls_ca=stranger.ca_file).score(["a"], "one", 0.9)
        failures.append(str(raised.value))
    with ContractServer(FakeEngine(), tls=authority.server("fleet.test")) as server:
        with pytest.raises(NoScores) as raised:
            _client(server.url, tls_ca=authority.ca_file).score(["a"], "one", 0.9)
        failures.append(str(raised.value))

    assert 0.5 == score
    assert [
        "certificate verify failed" in failures[0] or "unable to get" in failures[0],
        "IP address mismatch" in failures[1],
    ] == [
        True,
        True,
    ]


def test_authorities_that_cannot_be_used(tmp_path):
    """A file that is missing or holds no certificate is told with the setting."""
    (tmp_path / "ca.pem").write_text("nonsense")
    for name in ("ca.pem", "absent.pem"):
        with pytest.raises(ConfigError, match=r"scoring\.remote_tls_ca: .*" + name):
            RemoteScorer("https://fleet.test", TOKEN, timeout_seconds=1, tls_ca=tmp_path / name)


def test_the_path_stands_behind_that_of_the_address():
    """A fleet behind a proxy may have a path of its own."""
    assert "/spam/v1/score" == RemoteScorer("http://127.0.0.1:1/spam", TOKEN, timeout_seconds=1)._path
    assert "/v1/score" == RemoteScorer("http://[::1]:1", TOKEN, timeout_seconds=1)._path
    assert remote.CONNECT_SECONDS <= 1.0
