# SPDX-License-Identifier: Apache-2.0
"""Work on a Dask cluster, or in threads of this process where there is no cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import fastgreen
from fastgreen.errors import FastgreenError
from fastgreen.metrics.parallel import cpu_count

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["check_workers", "connected", "each"]

_WAIT_S = 10.0
_MOST_WAITING = 4  # tasks for each thread of the cluster: enough to keep it busy, few enough for any number of parts


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the cluster at an address.

    Raises
    ------
    OSError
        If no scheduler answers there within ten seconds.
    ImportError
        Without Dask.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("a cluster needs Dask: pip install 'fastgreen[distributed]'", name="distributed") from error
    try:
        client = Client(address, timeout=_WAIT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise OSError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        yield client


def check_workers(client: Client) -> None:
    """FastgreenError unless each worker has fastgreen in the version of this process."""
    here = fastgreen.__version__

    def version() -> str | None:  # sent by value, because a worker may lack this module
        try:
            from fastgreen import __version__
            from fastgreen.metrics.sweep import Sweep  # noqa: F401
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return __version__

    found = client.run(version)
    if not found:
        raise FastgreenError("the cluster has no worker")
    for worker, theirs in found.items():
        if theirs is None or theirs[:1].isalpha():
            raise FastgreenError(f"worker {worker} cannot use fastgreen ({theirs}); install fastgreen {here} there")
        if theirs != here:
            raise FastgreenError(f"worker {worker} has fastgreen {theirs}, not {here}; install the same version there")


def each(work: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any], client: Client | None) -> Iterator[Any]:
    """Yield ``work(shared, item)`` for each item, as they finish; `shared` is sent once to each worker."""
    return _in_threads(work, shared, items) if client is None else _on_cluster(work, shared, items, client)


def _in_threads(work: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]) -> Iterator[Any]:
    from concurrent.futures import FIRST_COMPLETED, wait

    waiting = iter(items)  # last in each zip, which takes one item too many of all before the one that ends
    pool = ThreadPoolExecutor(cpu_count())
    try:
        running = {pool.submit(work, shared, item) for _, item in zip(range(2 * cpu_count()), waiting, strict=False)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            running |= {pool.submit(work, shared, item) for _, item in zip(done, waiting, strict=False)}
    finally:
        pool.shutdown(cancel_futures=True)


def _on_cluster(work: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any], client: Client) -> Iterator[Any]:
    from distributed import as_completed

    check_workers(client)
    sent = client.scatter(shared, broadcast=True, hash=False)
    waiting = iter(items)
    most = _MOST_WAITING * max(1, sum(client.nthreads().values()))

    def submit(item: Any) -> Any:
        return client.submit(work, sent, item, pure=False, key=None)

    first = [submit(item) for _, item in zip(range(most), waiting, strict=False)]
    running = as_completed(first, loop=client.loop)
    for future in running:
        yield future.result()
        future.release()
        following = next(waiting, running)
        if following is not running:
            running.add(submit(following))
