"""A small HTTP server for tests of the fleet: it answers the contract with a fake engine, or does whatever a test has it say.

    with ContractServer(engine, TOKEN) as server: ...        # the real application, over real HTTP
    with Peer(answer) as server: ...                         # bytes of the test's own

Security: for tests alone; it listens on loopback.
"""

import asyncio
import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Self

from spamd.fleet.app import ScoreApp
from spamd.inference.batching import Batcher

TOKEN = "0123456789abcdef-secret"  # noqa: S105  for tests alone


class ContractServer:
    """The real application behind the standard library's server.

    Args:
        engine: what scores.
        token: what clients must show.
        port: where to listen; 0 for any that is free.
        tls: answers in TLS.

    Attributes:
        requests: how many have come.
        connections: how many connections they came by.
    """

    def __init__(self, engine, token=TOKEN, *, port=0, tls: ssl.SSLContext | None = None, max_waiting=1000) -> None:
        self.requests = 0
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._engine, self._token, self._max_waiting = engine, token, max_waiting
        self._open: list[socket.socket] = []
        self._pending: set[Future] = set()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                owner.connections += 1
                owner._open.append(self.request)
                super().setup()

            def handle(self) -> None:
                with contextlib.suppress(OSError, CancelledError):
                    super().handle()

            def finish(self) -> None:
                with contextlib.suppress(OSError):
                    super().finish()

            def do_POST(self) -> None:
                owner.requests += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, answer = owner._serve(self.command, self.path, self.headers.items(), body)
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name.decode(), value.decode())
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Serve, in threads."""
        ready = threading.Event()

        async def make() -> None:
            self._app = ScoreApp(Batcher(self._engine, max_waiting=self._max_waiting), self._token)
            ready.set()

        self._threads = [
            threading.Thread(target=self._loop.run_forever, daemon=True),
            threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        asyncio.run_coroutine_threadsafe(make(), self._loop)
        assert ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        """End as a process that is killed: at once, with what is in flight."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for answer in list(self._pending):
            answer.cancel()
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join(10)
        self._loop.close()

    def _serve(self, method, path, headers, body):
        """Ask the application; returns status, headers and body."""
        fields = [(name.lower().encode(), value.encode()) for name, value in headers]
        scope = {"type": "http", "method": method, "path": path, "headers": fields}
        answer = asyncio.run_coroutine_threadsafe(asked(self._app, scope, [body]), self._loop)
        self._pending.add(answer)
        try:
            return answer.result(30)
        finally:
            self._pending.discard(answer)


async def _cancel_all():
    """End whatever runs in this loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def asked(app, scope, chunks):
    """Ask an application once, the body in chunks; returns status, headers and body."""
    events = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    events.append({"type": "http.request", "body": b"", "more_body": False})
    sent = []

    async def receive():
        return events.pop(0)

    async def send(event):
        sent.append(event)

    await app(scope, receive, send)
    start, body = sent
    return start["status"], start["headers"], body["body"]


class Peer:
    """A server that reads one request a connection and does what a test says.

    Args:
        answer: given the connection, whose request has been read; the connection is closed when it returns.
    """

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0

    def __enter__(self) -> Self:
        """Serve, in a thread."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to listen."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _run(self) -> None:
        """Serve one connection after another."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with connection, contextlib.suppress(OSError):
                    self._read(connection)
                    self._answer(connection)

    def _read(self, connection: socket.socket) -> None:
        """Read a whole request."""
        wire = b""
        while b"\r\n\r\n" not in wire:
            wire += connection.recv(65_536)
        head, _, body = wire.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(65_536)


def saying(body: bytes, status: str = "200 OK", *headers: str) -> Callable[[socket.socket], None]:
    """Return what makes a peer answer with a status and a body."""
    head = "".join(f"{line}\r\n" for line in [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers])
    return lambda connection: connection.sendall(f"{head}\r\n".encode() + body)
