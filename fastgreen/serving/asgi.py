# SPDX-License-Identifier: Apache-2.0
"""Energy of each request of an ASGI application (FastAPI, Starlette): a span per request, with its tokens.

It needs no package: ASGI is an interface of plain functions and dictionaries (asgi.readthedocs.io).
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from fastgreen.serving.usage import UsageReader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from fastgreen._ledger import Ledger, Span
    from fastgreen.measuring.monitor import Monitor

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

__all__ = ["EnergyMiddleware"]

_ASKS = b"x-energy"
_DONE = b"data: [DONE]"
_LONGEST_ID = 200
_WAIT_S = 2.0


class EnergyMiddleware:
    """A span of a ledger for each request, from its first byte to the end of its response.

    The phases of a span are "first chunk" and, of a response in several chunks, "stream". The amounts of the object
    ``usage`` in the response, as of the API of OpenAI, are added: ``tokens`` (completion tokens) and ``prompt_tokens``.
    Inside of a request `fastgreen.current_span` is its span.

    Parameters
    ----------
    app : ASGI application
    monitor : Monitor, optional
        A monitor that runs. By default one is made with `options`, starts with the application, and its result is
        printed when the application ends.
    ledger : str
        The name of the ledger.
    answer : bool
        Tell a client the energy of its request, if the request has the header ``x-energy: 1``: in the last event of a
        stream of events, in the headers of a response in one piece, or in trailers, where the server has them.
    baseline_w : float or dict of float, optional
        As of `Monitor.ledger`.
    **options
        Arguments of `fastgreen.Monitor`, such as ``record="run"``.

    Examples
    --------
    ::

        from fastgreen.serving.asgi import EnergyMiddleware

        app.add_middleware(EnergyMiddleware, record="run")
    """

    def __init__(
        self,
        app: App,
        monitor: Monitor | None = None,
        *,
        ledger: str = "requests",
        answer: bool = False,
        baseline_w: float | dict[str, float] | None = None,
        **options: Any,
    ) -> None:
        if monitor is not None and options:
            raise ValueError(f"monitor must be left out where its options are given: {sorted(options)}")
        if not isinstance(ledger, str):
            raise TypeError(f"ledger must be a name, not {ledger!r}")
        self.app, self.answer = app, answer
        self._monitor, self._own = monitor, monitor is None
        self._options, self._name, self._baseline_w = options, ledger, baseline_w
        self._ledger: Ledger | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] in ("http", "websocket"):
            await self._request(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    # ---- the life of the application ----

    async def _lifespan(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        async def watched() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._begin()
            elif message["type"] == "lifespan.shutdown":
                self._end()
            return message

        await self.app(scope, watched, send)

    def _begin(self) -> Ledger:
        if self._ledger is None:
            if self._monitor is None:
                import fastgreen

                self._monitor = fastgreen.Monitor(**self._options).start()
            self._ledger = self._monitor.ledger(self._name, baseline_w=self._baseline_w)
        return self._ledger

    def _end(self) -> None:
        if not self._own or self._monitor is None:
            return
        result = self._monitor.stop()
        print(result, file=sys.stderr)
        if result is not None and self._name in result.ledger_names:
            table = result.ledgers
            baseline = json.loads(table.schema.metadata[b"baselines_j"]).get(self._name, 0.0)
            rows = [r for r in table.to_pylist() if r["ledger"] == self._name and r["unattributed_j"] is not None]
            for charged, alone in ((row["energy_j"], row["unattributed_j"]) for row in rows):
                print(
                    f"{self._name}: {charged:.4g} J charged, {alone:.4g} J while no request was open, {baseline:.4g} J "
                    f"baseline; together {charged + alone + baseline:.4g} J",
                    file=sys.stderr,
                )

    # ---- a request ----

    async def _request(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        ledger = self._begin()  # a server without lifespan begins with its first request
        async with ledger.span(_identity(scope)) as span:
            span.phase("first chunk")
            if scope["type"] == "websocket":
                await self.app(scope, receive, send)
                return
            asked = self.answer and any(name == _ASKS and value != b"0" for name, value in scope["headers"])
            await self.app(scope, receive, _Response(span, send, asked and _extensions(scope)))


def _identity(scope: MutableMapping[str, Any]) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
    if given:
        return given[:_LONGEST_ID].decode("latin-1")
    return f"{scope.get('method', 'WS')} {scope.get('path', '')}"[:_LONGEST_ID]


def _extensions(scope: MutableMapping[str, Any]) -> set[str]:
    return {"asked", *(scope.get("extensions") or {})}


class _Response:
    """Stands between an application and the server: sees what is sent, closes the span at the end of the response."""

    def __init__(self, span: Span, send: Send, asked: set[str] | bool) -> None:
        self.span, self.send, self.asked = span, send, asked
        self.usage: UsageReader | None = None
        self.held: Message | None = None  # the begin of a response to which the energy may be added
        self.way: str | None = None
        self.chunks = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        elif message["type"] == "http.response.body":
            await self._body(message)
        else:
            await self.send(message)

    async def _start(self, message: Message) -> None:
        headers = {bytes(name).lower(): bytes(value) for name, value in message.get("headers", ())}
        kind = headers.get(b"content-type", b"")
        if b"json" in kind or kind.startswith(b"text/event-stream"):
            self.usage = UsageReader()
        if not self.asked:
            await self.send(message)
        elif kind.startswith(b"text/event-stream") and b"content-length" not in headers:
            self.way = "event"
            await self.send(message)
        else:
            self.held = message

    async def _body(self, message: Message) -> None:
        data, last = message.get("body", b""), not message.get("more_body", False)
        if self.usage is not None:
            self.usage.take(data)
        if self.chunks == 0 and data and not last:
            self.span.phase("stream")
        self.chunks += bool(data)
        if self.held is not None:
            await self._release(last)
        if self.way == "event" and _DONE in data:  # clients read no further
            at = data.rindex(_DONE)
            await self.send({**message, "body": data[:at] + await self._event(), "more_body": True})
            await self.send({**message, "body": data[at:]})
            self.way = None
        elif last and self.way == "event":
            await self.send({**message, "more_body": True})
            await self.send({**message, "body": await self._event()})
        elif last and self.way == "trailer":
            await self.send(message)
            found = await self._energy()
            await self.send({"type": "http.response.trailers", "headers": _headers(found), "more_trailers": False})
        else:
            if last:
                self._close()
            await self.send(message)

    async def _release(self, last: bool) -> None:
        """Send the begin of a response: with the energy in its headers if it is complete."""
        message, self.held = self.held, None
        assert message is not None
        if last:
            message = {**message, "headers": [*message.get("headers", ()), *_headers(await self._energy())]}
        elif isinstance(self.asked, set) and "http.response.trailers" in self.asked:
            self.way = "trailer"
            message = {**message, "trailers": True}
        await self.send(message)

    def _close(self) -> None:
        if self.span.is_open:
            self.span.close(**(self.usage.amounts() if self.usage is not None else {}))

    async def _energy(self) -> dict[str, float]:
        """Energy in J with bounds, known one update of the counters later; empty if it is not known."""
        self._close()
        found = await self.span.energy_async(timeout=_WAIT_S)
        if found is None:
            return {}
        return {"energy_j": found.energy_j, "energy_low_j": found.low_j, "energy_high_j": found.high_j}

    async def _event(self) -> bytes:
        return b"event: energy\ndata: " + json.dumps(await self._energy()).encode() + b"\n\n"


def _headers(found: dict[str, float]) -> list[tuple[bytes, bytes]]:
    return [(f"x-{name.replace('_', '-')}".encode(), f"{value:.9g}".encode()) for name, value in found.items()]
