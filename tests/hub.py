"""A small server that stands in for the hub, and breaks where it is told to."""

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Hub:
    """What is served, and how badly.

    Attributes:
        files: path -> content.
        cut_after: connections end after so many bytes of the body, one entry a connection; then they are whole.
        has_ranges: whether a part of a file can be asked for.
        has_lengths: whether answers say how long they are.
        status: answered instead of any file, where it is not 200.
        is_silent: accept connections and say nothing.
        requests: path and Range header of each request, in order.
        url: where it listens.
    """

    files: dict[str, bytes]
    cut_after: list[int] = field(default_factory=list)
    has_ranges: bool = True
    has_lengths: bool = True
    status: int = 200
    is_silent: bool = False
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve on a free port of loopback."""
    released = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.requests.append((self.path, self.headers["Range"]))
            if hub.is_silent:
                released.wait(5)
                return
            if self.path.startswith("/moved/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/moved"))
                self.end_headers()
                return
            content = hub.files.get(self.path)
            if hub.status != 200 or content is None:
                self.send_error(hub.status if hub.status != 200 else 404)
                return
            self._send(content)

        def _send(self, content: bytes) -> None:
            start = 0
            if self.headers["Range"] and hub.has_ranges:
                start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
                if start >= len(content):
                    self.send_error(416)
                    return
            self.send_response(206 if start else 200)
            if hub.has_lengths:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            cut = hub.cut_after.pop(0) if hub.cut_after else None
            self.wfile.write(content[start:] if cut is None else content[start : start + cut])

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        released.set()
        server.shutdown()
        thread.join()
        server.server_close()
