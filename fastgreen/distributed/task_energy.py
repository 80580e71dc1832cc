# SPDX-License-Identifier: Apache-2.0
"""The energy of Dask's tasks: each host is measured once, and the tasks that overlap on it share its energy.

A plugin in each worker notes when tasks begin and end. One worker of a host also measures: the one that takes the
host's lock first. All processes of a host share CLOCK_MONOTONIC, so the spans of all its workers are shares of that one
measurement, by the rule of a ledger.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
import time
import warnings
from typing import TYPE_CHECKING, Any

from fastgreen.distributed.cluster import check_workers
from fastgreen.errors import FastgreenWarning
from fastgreen.measuring.monitor import Monitor
from fastgreen.units import NS_PER_S, counted

if TYPE_CHECKING:
    import pyarrow as pa
    from distributed import Client, Worker

    from fastgreen.results.result import Result

__all__ = ["TaskEnergy"]

try:
    from distributed.diagnostics.plugin import WorkerPlugin
except ImportError:  # TaskEnergy reports it
    WorkerPlugin = object  # type: ignore[assignment,misc]

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class TaskEnergy:
    """Measures the hosts of a cluster while it is open, and shares their energy among the tasks.

    Memory on each host grows with the number of readings and tasks until `stop`.

    Parameters
    ----------
    client : distributed.Client
    channels, hz
        As of `Monitor`, on each host.
    monitor_options
        Further arguments of `Monitor` on each host.

    Raises
    ------
    ImportError
        Without Dask.
    FastgreenError
        If a worker lacks fastgreen, or has another version.

    Notes
    -----
    ::

        with fg.distributed.TaskEnergy(client) as energy:
            client.gather(client.map(train, models))
        print(energy.by_prefix())
    """

    def __init__(
        self,
        client: Client,
        channels: str | list[str] | None = None,
        hz: float | dict[str, float] | None = None,
        **monitor_options: Any,
    ) -> None:
        if WorkerPlugin is object:
            raise ImportError(
                "the energy of tasks needs Dask: pip install 'fastgreen[distributed]'", name="distributed"
            )
        self._client = client
        self._options = {"channels": channels, "hz": hz, **monitor_options}
        self._name = f"fastgreen-energy-{secrets.token_hex(6)}"
        self._tables: pa.Table | None = None
        self._hosts: pa.Table | None = None
        self._state = "new"
        self.notes: list[str] = []

    def start(self) -> TaskEnergy:
        """Begin to measure. Each object measures once."""
        if self._state != "new":
            raise RuntimeError(f"this measurement is {self._state}; make another one")
        check_workers(self._client)
        self._client.register_plugin(_TaskPlugin(self._name, self._options), name=self._name)
        self._state = "running"
        return self

    def stop(self) -> TaskEnergy:
        """End the measurement and fetch it from the hosts. A second call does nothing."""
        if self._state == "running":
            self._state = "stopped"
            parts = self._client.run(_collect, self._name)
            self._client.unregister_worker_plugin(self._name)
            self._settle([part for part in parts.values() if part is not None])
        return self

    def __enter__(self) -> TaskEnergy:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def by_key(self) -> pa.Table:
        """A row for each run of a task.

        Returns
        -------
        pyarrow.Table
            key, prefix, host, worker, begin_ns (CLOCK_MONOTONIC of its host), duration_s, energy_j, energy_low_j,
            energy_high_j (J; null where its host was not measured), in the order of host and begin.
        """
        if self._tables is None:
            raise RuntimeError("the energies are known after stop()")
        return self._tables

    def by_prefix(self) -> pa.Table:
        """A row for each prefix of keys, the most energy first.

        Returns
        -------
        pyarrow.Table
            prefix, tasks, duration_s (of all tasks together), energy_j, energy_low_j, energy_high_j (J).
        """
        sums = [("key", "count")] + [(name, "sum") for name in ("duration_s", *_ENERGIES)]
        table = self.by_key().group_by("prefix", use_threads=False).aggregate(sums)
        table = table.rename_columns(["prefix", "tasks", "duration_s", *_ENERGIES])
        return table.sort_by([("energy_j", "descending"), ("prefix", "ascending")])

    def hosts(self) -> pa.Table:
        """A row for each host.

        Returns
        -------
        pyarrow.Table
            host, workers, tasks, energy_j, energy_low_j, energy_high_j, unattributed_j (while no task ran), in J; null
            where the host was not measured.
        """
        if self._hosts is None:
            raise RuntimeError("the energies are known after stop()")
        return self._hosts

    def _settle(self, parts: list[dict[str, Any]]) -> None:
        import pyarrow as pa

        tables, rows = [], []
        for boot in sorted({part["boot"] for part in parts}):
            here = [part for part in parts if part["boot"] == boot]
            spans = pa.concat_tables([part["spans"] for part in here]).sort_by([("begin_ns", "ascending")])
            name = here[0]["host"]
            spans = spans.append_column("host", pa.array([name] * len(spans), pa.string()))
            found = [part["result"] for part in here if part["result"] is not None]
            result = max(found, key=lambda one: one.duration_s, default=None)
            if len(found) > 1:
                self.notes.append(f"host {name} was measured {len(found)} times, as by two containers; one counts")
            tables.append(_shared(spans, result))
            missing = tables[-1]["energy_j"].null_count
            if missing:
                self.notes.append(f"{counted(missing, 'task')} ran on host {name} while it was not measured")
            rows.append({"host": name, "workers": len(here), "tasks": len(spans), **_of_host(result, tables[-1])})
        self._tables = pa.concat_tables(tables) if tables else _shared(_spans([]), None)
        self._hosts = pa.Table.from_pylist(rows, schema=_host_schema())
        for text in self.notes:
            warnings.warn(text, FastgreenWarning, stacklevel=4)


_ENERGIES = ("energy_j", "energy_low_j", "energy_high_j")


def _host_schema() -> pa.Schema:
    import pyarrow as pa

    fields = [("host", pa.string()), ("workers", pa.int64()), ("tasks", pa.int64())]
    return pa.schema(fields + [(name, pa.float64()) for name in (*_ENERGIES, "unattributed_j")])


def _spans(rows: list[tuple[str, str, str, int, int]]) -> pa.Table:
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) or [()] * 5
    names, kinds = ("key", "prefix", "worker", "begin_ns", "end_ns"), [pa.string()] * 3 + [pa.int64()] * 2
    return pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})


def _shared(spans: pa.Table, result: Result | None) -> pa.Table:
    """The spans of a host with their shares of its energy."""
    import pyarrow as pa
    import pyarrow.compute as pc

    duration = pc.divide(pc.cast(pc.subtract(spans["end_ns"], spans["begin_ns"]), pa.float64()), float(NS_PER_S))
    unknown = pa.nulls(len(spans), pa.float64())
    shares: Any = dict.fromkeys(_ENERGIES, unknown)
    metadata = None
    if result is not None and len(spans):
        try:
            table = result.share(spans)
        except ValueError:  # no task lies within the run
            pass
        else:
            shares, metadata = table, table.schema.metadata
    columns = {
        name: spans[name] for name in ("key", "prefix", "host", "worker", "begin_ns") if name in spans.schema.names
    }
    columns |= {"duration_s": duration} | {name: shares[name] for name in _ENERGIES}
    return pa.table(columns).replace_schema_metadata(metadata)


def _of_host(result: Result | None, table: pa.Table) -> dict[str, float | None]:
    if result is None:
        return dict.fromkeys((*_ENERGIES, "unattributed_j"))
    metadata = table.schema.metadata or {}
    nothing = result.energy_j if not metadata else float(metadata[b"unattributed_j"])
    energies = dict(zip(_ENERGIES, (result.energy_j, result.energy_low_j, result.energy_high_j), strict=True))
    return {**energies, "unattributed_j": nothing}


# ---- in a worker


class _TaskPlugin(WorkerPlugin):
    """Notes the tasks of a worker; measures if it is the first on its host."""

    idempotent = True

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name, self._options = name, options
        self.rows: list[tuple[str, str, str, int, int]] = []
        self._last: dict[Any, float] = {}
        self.monitor: Monitor | None = None
        self._lock: int | None = None

    def setup(self, worker: Worker) -> None:
        self._worker = worker
        self.rows = []
        path = os.path.join(tempfile.gettempdir(), f"{self.name}.lock")
        self._lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        self.monitor = Monitor(**self._options).start()

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """A task changed its state; one that ran has a new stretch of computing."""
        if start not in ("executing", "long-running", "cancelled", "resumed"):
            return
        task = self._worker.state.tasks.get(key)
        ran = [one for one in (task.startstops if task is not None else []) if one["action"] == "compute"]
        if ran and self._last.get(key) != ran[-1]["start"]:  # else this change of state is no end of a stretch
            self._last[key] = ran[-1]["start"]
            self._note(key, ran[-1]["start"], ran[-1]["stop"])

    def _note(self, key: Any, begin_s: float, end_s: float) -> None:
        from dask.utils import key_split

        offset_ns = time.monotonic_ns() - time.time_ns()
        begin_ns, end_ns = (round(one * NS_PER_S) + offset_ns for one in (begin_s, end_s))
        self.rows.append((str(key), str(key_split(key)), self._worker.address, begin_ns, max(begin_ns, end_ns)))

    def take(self) -> dict[str, Any]:
        """What this worker knows, at the end of the measurement."""
        result = self.monitor.stop() if self.monitor is not None else None
        with open(_BOOT_ID) as file:
            boot = file.read().strip()
        return {"boot": boot, "host": os.uname().nodename, "spans": _spans(self.rows), "result": result}

    def teardown(self, worker: Worker) -> None:
        if self.monitor is not None:
            self.monitor.stop()
        if self._lock is not None:
            os.close(self._lock)
            if self.monitor is not None:
                os.unlink(os.path.join(tempfile.gettempdir(), f"{self.name}.lock"))
            self._lock = None


def _collect(name: str, dask_worker: Worker) -> dict[str, Any] | None:
    plugin = dask_worker.plugins.get(name)
    return plugin.take() if isinstance(plugin, _TaskPlugin) else None
