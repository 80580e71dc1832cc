# SPDX-License-Identifier: Apache-2.0
"""The middleware with a real server on loopback: spans of requests add up, and clients are told on request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading

import pytest

import fastgreen as fg
from fastgreen.serving.asgi import EnergyMiddleware
from fastgreen.serving.usage import UsageReader
from tests.fakes.powercap import Zone

pytestmark = pytest.mark.filterwarnings("ignore::fastgreen.errors.FastgreenWarning")
starlette = pytest.importorskip("starlette", reason="starlette is not installed (extra serve)")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra serve)")
httpx = pytest.importorskip("httpx", reason="httpx is not installed (extra serve)")

USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


@pytest.fixture
def zones(powercap):
    powercap(Zone("package-0", 80.0), move=True)


def application():
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
    from starlette.routing import Route

    async def complete(request):
        await asyncio.sleep(0.05)
        return JSONResponse({"text": "abc", "usage": USAGE})

    async def stream(request):
        async def events():
            for word in "abc":
                await asyncio.sleep(0.02)
                yield f"data: {json.dumps({'text': word, 'usage': None})}\n\n"
            yield f"data: {json.dumps({'usage': USAGE})}\n\n"
            if "done" in request.query_params:
                yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def slow(request):
        async def chunks():
            for _ in range(200):
                await asyncio.sleep(0.05)
                yield b"x"

        return StreamingResponse(chunks(), media_type="text/plain")

    async def fail(request):
        raise RuntimeError("on purpose")

    async def inner(request):
        fg.current_span().add(images=2)
        return PlainTextResponse("ok")

    paths = {"/complete": complete, "/stream": stream, "/slow": slow, "/fail": fail, "/inner": inner}
    return Starlette(routes=[Route(path, handler, methods=["GET", "POST"]) for path, handler in paths.items()])


@contextlib.contextmanager
def served(app):
    """A real server on a free port of loopback; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                thread.join(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


def total(table, name):
    return float(table.schema.metadata[name.encode()])


def test_requests_at_once_add_up_to_the_meter_with_their_tokens(zones):
    with fg.Monitor() as monitor:
        app = application()
        app.add_middleware(EnergyMiddleware, monitor=monitor)

        async def load(base):
            async with httpx.AsyncClient(base_url=base) as client:
                paths = ["/complete", "/stream", "/inner"] * 5
                return await asyncio.gather(*(client.get(p, headers={"x-request-id": p[1:]}) for p in paths))

        with served(app) as base:
            assert [r.status_code for r in asyncio.run(load(base))] == [200] * 15
    table = monitor.result.spans("requests")
    shared = sum(table["energy_j"].to_pylist()) + total(table, "unattributed_j")
    assert shared == pytest.approx(total(table, "drawn_j"), rel=1e-9)
    rows = table.to_pylist()
    assert sorted(row["id"] for row in rows) == sorted(["complete", "stream", "inner"] * 5)
    assert all(row["tokens"] == 3 and row["prompt_tokens"] == 5 for row in rows if row["id"] != "inner")
    assert all(row["images"] == 2 for row in rows if row["id"] == "inner")
    phases = {(r["id"], r["phase"]) for r in monitor.result.spans("requests", by="phase").to_pylist()}
    assert {p for p in phases if p[1]} == {(i, "first chunk") for i in ("complete", "stream", "inner")} | {
        ("stream", "stream")
    }
    by_token = [row for row in monitor.result.ledgers.to_pylist() if row["amount"] == "tokens" and not row["phase"]]
    assert by_token[0]["total"] == 30
    assert by_token[0]["mean_energy_j"] > 0


def events(text):
    """The events of a stream as (name, data)."""
    blocks = [dict(line.split(": ", 1) for line in b.splitlines()) for b in text.strip().split("\n\n")]
    return [(b.get("event"), b["data"]) for b in blocks]


def test_a_client_that_asks_is_told_its_joules(zones):
    with fg.Monitor() as monitor:
        app = application()
        app.add_middleware(EnergyMiddleware, monitor=monitor, answer=True)
        with served(app) as base, httpx.Client(base_url=base) as client:
            asks = {"x-energy": "1"}
            silent = client.get("/complete")
            whole = client.get("/complete", headers=asks)
            stream = client.get("/stream", headers=asks)
            done = client.get("/stream?done=1", headers=asks)
    assert "x-energy-j" not in silent.headers
    assert whole.json()["usage"] == USAGE
    low, energy, high = (float(whole.headers[f"x-energy-{k}j"]) for k in ("low-", "", "high-"))
    assert 0 <= low <= energy <= high
    name, data = events(stream.text)[-1]
    assert (name, sorted(json.loads(data))) == ("energy", ["energy_high_j", "energy_j", "energy_low_j"])
    assert events(done.text)[-1] == (None, "[DONE]")
    assert events(done.text)[-2][0] == "energy"
    assert [e[1] for e in events(done.text)[:3]] == [e[1] for e in events(stream.text)[:3]]
    found = monitor.result.spans("requests")["energy_j"].to_pylist()
    assert energy == pytest.approx(found[1], rel=0.05)


def test_errors_and_clients_that_hang_up_close_their_spans(zones):
    with fg.Monitor() as monitor:
        app = application()
        app.add_middleware(EnergyMiddleware, monitor=monitor)
        with served(app) as base:  # a connection each, because the server closes the one on which it failed
            assert httpx.get(f"{base}/fail").status_code == 500
            with httpx.stream("GET", f"{base}/slow") as response:
                next(response.iter_raw())
    rows = monitor.result.spans("requests").to_pylist()
    assert [row["id"] for row in rows] == ["GET /fail", "GET /slow"]
    assert rows[1]["duration_s"] < 5
    assert not any("open at the end" in note for note in monitor.result.notes)


def test_three_lines_are_enough_and_the_result_is_printed_at_the_end(zones, capfd, tmp_path):
    app = application()
    app.add_middleware(EnergyMiddleware, record=tmp_path / "run")
    with served(app) as base, httpx.Client(base_url=base) as client:
        for _ in range(3):
            client.get("/complete")
    printed = capfd.readouterr().err
    assert "tokens" in printed
    charged, alone, baseline, drawn = map(float, re.search(
        r"requests: (\S+) J charged, (\S+) J while no request was open, (\S+) J baseline; together (\S+) J", printed
    ).groups())  # fmt: skip
    assert charged + alone + baseline == pytest.approx(drawn, rel=2e-3)
    assert charged > 0
    assert fg.load(tmp_path / "run").spans("requests")["tokens"].to_pylist() == [3, 3, 3]


def test_a_server_with_trailers_gets_the_joules_there(zones):
    """Of the servers here no one has trailers: the messages are those of the ASGI specification."""
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        for more in (True, False):
            await send({"type": "http.response.body", "body": b"x", "more_body": more})

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    with fg.Monitor() as monitor:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-energy", b"1")]}
        scope["extensions"] = {"http.response.trailers": {}}
        asyncio.run(EnergyMiddleware(app, monitor, answer=True)(scope, receive, send))
    assert sent[0]["trailers"] is True
    assert [m["type"] for m in sent][-1] == "http.response.trailers"
    assert [name for name, _ in sent[-1]["headers"]] == [b"x-energy-j", b"x-energy-low-j", b"x-energy-high-j"]


def test_fastapi_takes_the_middleware(zones):
    fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed")
    app = fastapi.FastAPI()

    @app.get("/")
    async def root():
        return {"usage": {"completion_tokens": 7}}

    with fg.Monitor() as monitor:
        app.add_middleware(EnergyMiddleware, monitor=monitor, ledger="chat")
        with served(app) as base:
            assert httpx.get(base).status_code == 200
    assert monitor.result.spans("chat")["tokens"].to_pylist() == [7]


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="monitor must be left out"):
        EnergyMiddleware(application(), monitor=object(), record="x")
    with pytest.raises(TypeError, match="ledger must be a name"):
        EnergyMiddleware(application(), ledger=5)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"usage": {"prompt_tokens": 1, "completion_tokens": 2}}', {"prompt_tokens": 1, "tokens": 2}),
        ('{"usage":{"input_tokens":1,"output_tokens":2}, "text": "b"}', {"prompt_tokens": 1, "tokens": 2}),
        ('data: {"usage": {"completion_tokens": 2}}\n\ndata: {"usage": null}\n\n', {"tokens": 2}),
        ('{"text": "\\"usage\\": {\\"completion_tokens\\": 9}"}', {}),
        ('{"usage": {"completion_tokens": true, "prompt_tokens": -1}}', {}),
        ('{"usage": {"completion_tokens": 1e400', {}),
        ('{"usage": ' + "[" * 60_000, {}),
        ("", {}),
    ],
)
def test_usage_is_found_in_any_response(text, found):
    reader = UsageReader()
    for at in range(0, len(text), 7):
        reader.take(text[at : at + 7].encode())
    assert reader.amounts() == found
