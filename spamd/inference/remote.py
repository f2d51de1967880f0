"""The client of a fleet: texts go out over HTTP, scores come back, within a time and a length that we set.

Blocking, for any number of threads at once; each request takes a connection of its own, and connections are kept. Divides
nothing and falls back on nothing: `fallback` does. The contract is `contract`; the other side is `spamd.fleet`.

Security: connects to the one address of the settings, follows no redirection, knows no proxy. What comes back is hostile: its
length is bounded, the time for all of it ends with a cut of the connection however it drips, and it is checked field by field.
Neither token nor text appears in any reason. Over TLS the certificate is checked, name and all.
"""

import contextlib
import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from spamd import __version__
from spamd.errors import ConfigError
from spamd.inference.contract import (
    MAX_ANSWER_BYTES,
    MAX_DEADLINE_MILLISECONDS,
    PATH,
    ScoreRequest,
    decode_answer,
    encode_request,
    loaded_checkpoint,
)
from spamd.inference.scored import Scored

CONNECT_SECONDS = 1.0
"""How long connecting may take, and as long again the handshake."""

NUM_ATTEMPTS = 2
"""Where a connection or a replica breaks, so many in all, within the time for one answer."""

_MAX_DIGITS = 6


class NoScores(Exception):  # noqa: N818  the name tells what happened
    """The fleet gave no scores; the text says why, fit for the log.

    Attributes:
        is_lasting: asking again soon is of no use.
        is_broken: the connection or a replica behind it broke, so that another may serve the same request.
        rest_seconds: how long the fleet wants to be left alone.
    """

    def __init__(self, reason: str, *, is_lasting: bool = False, is_broken: bool = False, rest_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.is_lasting = is_lasting
        self.is_broken = is_broken
        self.rest_seconds = rest_seconds


class RemoteScorer:
    """Asks a fleet.

    Args:
        url: where it answers, without the path of the contract.
        token: shown with each request.
        timeout_seconds: time for a whole answer, a second attempt included.
        tls_ca: authorities that may have signed its certificate; None takes the system's.

    Attributes:
        url: as given.
        timeout_seconds: as given.
        num_repeated: attempts that were made because the one before broke.

    Raises:
        ConfigError: `tls_ca` cannot be used.
    """

    def __init__(self, url: str, token: str, *, timeout_seconds: float, tls_ca: Path | None = None) -> None:
        parts = urlsplit(url)
        self.url = url
        self.timeout_seconds = timeout_seconds
        self.num_repeated = 0
        self._lock = threading.Lock()
        self._host, self._port = parts.hostname or "", parts.port
        self._context = _context(tls_ca) if parts.scheme == "https" else None
        self._path = parts.path.rstrip("/") + PATH
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "User-Agent": f"spamd/{__version__}",
        }
        # Appending to a list and popping from it need no lock.
        self._idle: list[http.client.HTTPConnection] = []

    def score(self, texts: Sequence[str], checkpoint: str, threshold: float, deadline: float | None = None) -> list[Scored]:
        """Have texts scored by one request.

        Args:
            texts: what the model reads, no more than a request may hold.
            checkpoint: id of the checkpoint that must score.
            threshold: its operating point.
            deadline: on the monotonic clock; None gives the whole time that an answer may take.

        Returns:
            One answer a text, in the same order.

        Raises:
            NoScores: whatever the reason.
        """
        deadline = time.monotonic() + self.timeout_seconds if deadline is None else deadline
        connection = self._kept()
        # What was asked may be asked again, and a kept connection that the server has just closed was none of the attempts.
        for num_left in range(NUM_ATTEMPTS if connection else NUM_ATTEMPTS - 1, -1, -1):
            try:
                body = self._ask(texts, checkpoint, deadline, connection)
                break
            except NoScores as failure:
                if not failure.is_broken or not num_left:
                    raise
            connection = None
            with self._lock:
                self.num_repeated += 1
        try:
            return decode_answer(body, checkpoint=checkpoint, threshold=threshold, num_texts=len(texts))
        except ValueError as error:
            raise NoScores(f"its answer is not to be used: {error}") from None

    def close(self) -> None:
        """Close what is kept open."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _ask(self, texts: Sequence[str], checkpoint: str, deadline: float, kept: http.client.HTTPConnection | None) -> bytes:
        """Make one attempt; returns the body of an answer with scores."""
        left = deadline - time.monotonic()
        milliseconds = min(int(1000 * left), MAX_DEADLINE_MILLISECONDS)
        if milliseconds < 1:
            raise _too_late()
        request = encode_request(ScoreRequest(checkpoint, milliseconds, texts))
        connection = kept or self._connect(left)
        try:
            with _cut_off(connection, deadline):
                connection.request("POST", self._path, request, self._headers)
                response = connection.getresponse()
                body = response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoScores(f"the connection broke: {_wording(error)}.", is_broken=True) from None
        if len(body) > MAX_ANSWER_BYTES or time.monotonic() >= deadline:
            connection.close()
            too_long = NoScores(f"its answer is longer than {MAX_ANSWER_BYTES} bytes.")
            raise too_long if len(body) > MAX_ANSWER_BYTES else _too_late()
        if response.isclosed() and not response.will_close:
            self._idle.append(connection)
        else:
            connection.close()
        return _scores_of(response, body)

    def _kept(self) -> http.client.HTTPConnection | None:
        """Return a kept connection on which nothing has come since, neither its end nor words that nobody asked for."""
        with contextlib.suppress(IndexError):
            while True:
                connection = self._idle.pop()
                poll = select.poll()
                poll.register(connection.sock, select.POLLIN)
                if not poll.poll(0):
                    return connection
                connection.close()
        return None

    def _connect(self, left: float) -> http.client.HTTPConnection:
        """Open a connection."""
        seconds = min(CONNECT_SECONDS, left)
        connection = (
            http.client.HTTPSConnection(self._host, self._port, timeout=seconds, context=self._context)
            if self._context
            else http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        )
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise NoScores(f"it cannot be reached: {_wording(error)}.") from None
        # The standard library would open it again without a word, and without our limits.
        connection.auto_open = 0
        connection.sock.settimeout(self.timeout_seconds)
        return connection


@contextlib.contextmanager
def _cut_off(connection: http.client.HTTPConnection, deadline: float) -> Iterator[None]:
    """Cut a connection at the deadline: a time limit for each read alone could be outlived a byte at a time."""
    # Not SSLSocket.shutdown, which takes away under the reader's hands what the reader works with.
    timer = threading.Timer(max(deadline - time.monotonic(), 0.0), _shut, [connection.sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut(connection: socket.socket) -> None:
    """End both directions of a connection."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _scores_of(response: http.client.HTTPResponse, body: bytes) -> bytes:
    """Return the body of an answer with scores; put any other answer into words."""
    status = response.status
    if status == HTTPStatus.OK:
        return body
    if status == HTTPStatus.UNAUTHORIZED:
        raise NoScores("it does not accept our token (401).", is_lasting=True)
    if status == HTTPStatus.CONFLICT:
        raise NoScores(f"it has loaded checkpoint {loaded_checkpoint(body)} and not ours (409).", is_lasting=True)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        wish = response.headers.get("Retry-After", "")
        rest = float(wish) if wish.isascii() and wish.isdecimal() and len(wish) <= _MAX_DIGITS else 0.0
        raise NoScores("it is busy (503).", rest_seconds=rest)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise NoScores(f"it failed ({status}).", is_broken=True)
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
        raise NoScores(f"it did not take our request ({status}).")
    raise NoScores(f"what answers there is no scorer ({status}); see scoring.remote_url.", is_lasting=True)


def _too_late() -> NoScores:
    """The failure to answer in time."""
    return NoScores("it did not answer in time.")


def _wording(error: Exception) -> str:
    """Put a failure of the connection into a few words; texts of HTTPException would quote the server."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _context(tls_ca: Path | None) -> ssl.SSLContext:
    """Make the context for connections in TLS."""
    try:
        return ssl.create_default_context(cafile=tls_ca)
    except ssl.SSLError:
        raise ConfigError(f"scoring.remote_tls_ca: {tls_ca} holds no certificate in PEM form.") from None
    except OSError as error:
        raise ConfigError(f"scoring.remote_tls_ca: {tls_ca} cannot be read: {error.strerror}.") from None
