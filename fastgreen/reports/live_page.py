"""The page of a run that goes on, served to browsers: the page itself, and its news as server-sent events.

It is read-only. On the loopback address a foreign Host header is refused, so that no web page can read it by a name of
its own. Any other address needs the token of the printed address.
"""

from __future__ import annotations

import functools
import hmac
import ipaddress
import json
import secrets
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from fastgreen.reports.page import page_parts, whole_page

if TYPE_CHECKING:
    from fastgreen.results.result import Result

__all__ = ["LivePage"]

_MOST_READERS = 16
_ALIVE_S = 10.0  # between two signs of life on a stream without news


class LivePage:
    """Serves a page of the newest result.

    Parameters
    ----------
    host : str
        Address to listen on.
    port : int
        0 for a free one.
    title : str

    Attributes
    ----------
    address : str
        The page's URL, with its token if it needs one.

    Raises
    ------
    OSError
        If the port is taken, or the address is not one of this machine.
    """

    def __init__(self, host: str, port: int, title: str) -> None:
        self._title = title
        self._news = threading.Condition()
        self._number = 0
        self._parts: tuple[dict[str, str], dict[str, Any]] | None = None
        self._message = b""
        self._over = False
        self._readers = threading.Semaphore(_MOST_READERS)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = type("Server", (ThreadingHTTPServer,), {"address_family": family, "daemon_threads": True})
        self._server = server((host, port), type("Handler", (_Handler,), {"page": self}))
        bound = self._server.server_address
        self.port = int(bound[1])
        self.loopback = ipaddress.ip_address(str(bound[0]).partition("%")[0]).is_loopback
        self.token = None if self.loopback else secrets.token_urlsafe(24)
        anywhere = ipaddress.ip_address(str(bound[0]).partition("%")[0]).is_unspecified
        name = socket.gethostname() if anywhere else f"[{host}]" if ":" in host else host
        self.address = f"http://{name}:{self.port}/" + (f"?token={self.token}" if self.token else "")
        self._hosts = {f"{h}:{self.port}" for h in ("localhost", "127.0.0.1", "[::1]", name)}
        self._thread = threading.Thread(target=self._server.serve_forever, name="fastgreen-page", daemon=True)
        self._thread.start()

    def show(self, result: Result) -> float:
        """Show this result from now on. Returns the seconds that it took to make the page."""
        begin = time.process_time()
        html, data = page_parts(result)
        text = json.dumps({"html": html, "data": data}, allow_nan=False)
        with self._news:
            self._parts, self._message = (html, data), f"data: {text}\n\n".encode()
            self._number += 1
            self._news.notify_all()
        return time.process_time() - begin

    def close(self) -> None:
        """End every stream and free the port. Idempotent."""
        with self._news:
            self._over = True
            self._news.notify_all()
        self._server.shutdown()
        self._server.server_close()

    # ---- for the handler ----

    def allows(self, host: str | None, query: str) -> bool:
        """Whether a request with this Host header and this query may read the page."""
        if self.token is None:
            return host in self._hosts
        given = parse_qs(query).get("token", [""])[0]
        return hmac.compare_digest(given.encode(), self.token.encode())

    def html(self) -> bytes:
        """The page of the newest result, or one that waits for a first reading."""
        with self._news:
            parts = self._parts
        if parts is None:
            names = ("TOTAL", "IDENTITY", "CURVE_NOTE", "BARS", "WINDOWS", "COSTS", "CHANNELS", "NOTES")
            html = dict.fromkeys(names, "") | {"TOTAL": "<p>No reading yet.</p>"}
            parts = html, {"duration_s": 0.0, "titles": [], "levels": [], "lanes": [], "windows": None}
        return whole_page(*parts, self._title, live=True).encode()

    def _is_news(self, seen: int) -> bool:
        return self._over or self._number != seen

    def events(self) -> Any:
        """Messages of a stream, the newest ones only: a slow reader gets fewer."""
        seen = 0
        while True:
            with self._news:
                self._news.wait_for(functools.partial(self._is_news, seen), _ALIVE_S)
                number, message, over = self._number, self._message, self._over
            if number != seen:
                seen = number
                yield message
            elif not over:
                yield b": still here\n\n"
            if over:
                yield b"event: end\ndata: the run has ended\n\n"
                return


class _Handler(BaseHTTPRequestHandler):
    page: LivePage
    server_version = "fastgreen"
    sys_version = ""
    timeout = 30  # of a client that sends nothing

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        if not self.page.allows(self.headers.get("Host"), place.query):
            self._answer(403, b"This address needs the token that fastgreen printed, or the host name localhost.\n")
        elif place.path == "/":
            self._answer(200, self.page.html(), "text/html; charset=utf-8")
        elif place.path == "/events":
            self._stream()
        elif place.path == "/favicon.ico":
            self._answer(204, b"")
        else:
            self._answer(404, b"There is no such page.\n")

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self._headers(kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _headers(self, kind: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")

    def _stream(self) -> None:
        if not self.page._readers.acquire(blocking=False):
            self._answer(503, b"Too many browsers follow this run.\n")
            return
        try:
            self.send_response(200)
            self._headers("text/event-stream")
            self.end_headers()
            for message in self.page.events():
                self.wfile.write(message)
                self.wfile.flush()
        except OSError:
            pass  # the browser has gone
        finally:
            self.page._readers.release()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal shows the run."""
