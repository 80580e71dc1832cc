# SPDX-License-Identifier: Apache-2.0
"""Joules per request and per token of a server: a small language model with dynamic batching, on loopback.

``python examples/serve.py`` starts the server, sends requests 1, 8 and 32 at once, and prints what they cost. The model
is real and its weights are random: a gated recurrent network in NumPy that writes bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import threading
from dataclasses import dataclass, field

# The products of one step are too small for several threads, which would wait for each other.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import httpx
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

import fastgreen as fg
from fastgreen.serving.asgi import EnergyMiddleware

AT_ONCE = (1, 8, 32)
VOCABULARY = 256


class Model:
    """A gated recurrent network: its state for a batch of sequences goes one byte further with each step."""

    def __init__(self, width: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.width = width
        self.bytes = rng.standard_normal((VOCABULARY, width), np.float32)
        self.gates = rng.standard_normal((2 * width, 3 * width), np.float32) / np.sqrt(width, dtype=np.float32)
        self.out = rng.standard_normal((width, VOCABULARY), np.float32)

    def step(self, state: np.ndarray, byte: np.ndarray) -> np.ndarray:
        """The next state, (batch, width)."""
        mixed = np.concatenate([self.bytes[byte], state], axis=1) @ self.gates
        keep, reset, new = np.split(mixed, 3, axis=1)
        keep = 1 / (1 + np.exp(-keep))
        return keep * state + (1 - keep) * np.tanh(new / (1 + np.exp(-reset)))

    def next(self, state: np.ndarray) -> np.ndarray:
        """The most probable byte for each state."""
        return (state @ self.out).argmax(axis=1)


@dataclass
class Sequence:
    """A request in the batch. Its span is charged while it computes, not while it waits for a place."""

    prompt: list[int]
    left: int
    span: object
    state: np.ndarray
    made: asyncio.Queue = field(default_factory=asyncio.Queue)
    last: int = 0


class Engine:
    """Puts waiting requests into the running batch before each step."""

    def __init__(self, model: Model, most: int) -> None:
        self.model, self.most = model, most
        self.waiting: asyncio.Queue[Sequence] = asyncio.Queue()

    async def run(self) -> None:
        batch: list[Sequence] = []
        while True:
            while not batch or (len(batch) < self.most and not self.waiting.empty()):
                one = await self.waiting.get()
                one.span.weight = 1.0
                batch.append(one)
            await asyncio.to_thread(self._step, batch)
            for one in batch:
                if not one.prompt:
                    one.made.put_nowait(one.last)
            batch = [one for one in batch if one.left > 0]

    def _step(self, batch: list[Sequence]) -> None:
        byte = np.array([one.prompt[0] if one.prompt else one.last for one in batch])
        state = self.model.step(np.stack([one.state for one in batch]), byte)
        made = self.model.next(state)
        for i, one in enumerate(batch):
            one.state, one.prompt = state[i], one.prompt[1:]
            if not one.prompt:
                one.last, one.left = int(made[i]), one.left - 1


def application(model: Model, most: int, monitor: fg.Monitor) -> Starlette:
    """A server of one path, which streams bytes as events, and last their number."""
    engine = Engine(model, most)

    async def complete(request):
        asked = await request.json()
        prompt = list(asked["prompt"].encode())
        one = Sequence(prompt, asked["max_tokens"], fg.current_span(), np.zeros(model.width, np.float32))
        one.span.weight = 0.0
        await engine.waiting.put(one)

        async def events():
            for _ in range(asked["max_tokens"]):
                yield f"data: {json.dumps({'byte': await one.made.get()})}\n\n"
            usage = {"prompt_tokens": len(prompt), "completion_tokens": asked["max_tokens"]}
            yield f"data: {json.dumps({'usage': usage})}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @contextlib.asynccontextmanager
    async def lifespan(app):
        task = asyncio.create_task(engine.run())
        yield
        task.cancel()

    app = Starlette(routes=[Route("/complete", complete, methods=["POST"])], lifespan=lifespan)
    app.add_middleware(EnergyMiddleware, monitor=monitor)
    return app


@contextlib.contextmanager
def served(app: Starlette):
    """The server in a thread of its own, on a free port; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                thread.join(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


async def load(base: str, requests: int, at_once: int, tokens: int) -> None:
    """Send requests, so many at once; each begins when another has ended."""
    limit = asyncio.Semaphore(at_once)

    async def one(client: httpx.AsyncClient, number: int) -> None:
        async with limit:
            body = {"prompt": f"request {number}: " + "x" * (number % 7), "max_tokens": tokens}
            async with client.stream("POST", "/complete", json=body) as response:
                async for _ in response.aiter_lines():
                    pass

    async with httpx.AsyncClient(base_url=base, timeout=None, limits=httpx.Limits(max_connections=None)) as client:
        await asyncio.gather(*(one(client, number) for number in range(requests)))


def measure(model: Model, at_once: int, requests: int, tokens: int, most: int) -> fg.Result:
    with fg.Monitor(settle=True) as monitor, served(application(model, most, monitor)) as base:
        asyncio.run(load(base, requests, at_once, tokens))
    return monitor.result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=128, help="requests for each number at once (128)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each response (64)")
    parser.add_argument("--width", type=int, default=512, help="width of the model (512)")
    parser.add_argument("--batch", type=int, default=16, help="most requests in the batch (16)")
    given = parser.parse_args()
    model = Model(given.width)
    print(
        f"{'at once':>8} {'J/request':>10} {'bounds':>19} {'J/token':>9} {'no request':>11} {'drawn':>9} "
        f"{'windows say':>12}"
    )
    result = None
    for at_once in AT_ONCE:
        result = measure(model, at_once, given.requests, given.tokens, given.batch)
        rows = {row["amount"]: row for row in result.ledgers.to_pylist() if row["phase"] is None}
        request, token = rows[None], rows["tokens"]
        drawn = float(result.spans("requests").schema.metadata[b"drawn_j"])
        bounds = f"{request['mean_energy_low_j']:.3g} .. {request['mean_energy_high_j']:.3g}"
        print(
            f"{at_once:>8} {request['mean_energy_j']:>10.4g} {bounds:>19} {token['mean_energy_j']:>9.4g} "
            f"{request['unattributed_j']:>9.4g} J {drawn:>7.4g} J {request['window_factor']:>8.3g} x it"
        )
    about = result.spans("requests").schema.metadata
    print("rule: requests in the batch share equally; a request that waits for a place has the weight 0")
    if about[b"estimated"] == b"true":
        print("The energies are estimates from CPU time: this machine shows no energy counter (`fastgreen channels`).")


if __name__ == "__main__":
    main()
