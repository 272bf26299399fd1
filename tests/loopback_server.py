"""An HTTP server on this machine that serves files well or badly, for tests of downloads."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Loopback:
    """What the server does is the first part of the path; the body is the same for all.

    good: all of it. unannounced: all of it without Content-Length. truncated: half of what it announced, then the end.
    dies: half, then the connection is reset. slow: a little every 20 ms. silent: an answer, but no byte of the body.
    missing: 404. wrong: other bytes of the same length. long: announces 100 times as much. endless: never stops.
    """

    def __init__(self, body: bytes) -> None:
        self.body, self.requests, self.url = body, 0, ""

    def send(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        manner, body = handler.path.split("/")[1], self.body
        if manner == "missing":
            handler.send_error(404)
            return
        handler.send_response(200)
        if manner not in ("unannounced", "endless"):
            handler.send_header("Content-Length", str(len(body) * (100 if manner == "long" else 1)))
        handler.end_headers()
        if manner == "slow":
            for start in range(0, len(body), 4096):
                handler.wfile.write(body[start : start + 4096])
                time.sleep(0.02)
        elif manner == "silent":
            time.sleep(3)
        elif manner == "endless":
            while True:
                handler.wfile.write(body)
        elif manner in ("truncated", "dies"):
            handler.wfile.write(body[: len(body) // 2])
            if manner == "dies":
                linger = struct.pack("ii", 1, 0)  # closing resets the connection
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            handler.wfile.write(body[::-1] if manner == "wrong" else body)


@contextmanager
def serve(body: bytes) -> Iterator[Loopback]:
    """A running server; `.url` is where it answers."""
    loopback = Loopback(body)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                loopback.send(self)
            except OSError:  # the client has gone away, as it should
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    loopback.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield loopback
    finally:
        server.shutdown()
        server.server_close()
