# SPDX-License-Identifier: Apache-2.0
"""Several runs of one job as one result: each physical counter once, windows and spans by host and rank."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastgreen._light_dataclass import replace
from fastgreen.guards.arguments import path_text
from fastgreen.guards.untrusted import is_number
from fastgreen.results.bounded import Windows
from fastgreen.results.launcher import recorded_launch
from fastgreen.results.physical import Copy, merged_traces
from fastgreen.results.result import Result
from fastgreen.results.run_reader import UNFINISHED, save_run
from fastgreen.results.set_tables import located, repeated, share_by_host, together
from fastgreen.results.trace import Trace
from fastgreen.results.wall_clock import shifted_clock
from fastgreen.units import NS_PER_S, counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, Literal

__all__ = ["RunSet"]

_BEFORE_ID = "\x1f"  # between rank and id of a span, while spans of all ranks share
_NUMBERS = 1 << 40  # spans of one ledger of one run


class Member:
    """One run of the set."""

    def __init__(self, folder: Path, result: Result) -> None:
        self.folder, self.result = folder, result
        metadata = result.metadata
        self.launch = recorded_launch(metadata.get("launcher"))
        self.rank = "" if self.launch.rank is None else str(self.launch.rank)
        self.host_name = str(metadata.get("host", "host"))
        self.boot = str(metadata.get("boot") or self.host_name)
        self.offset_ns = int(metadata["realtime_ns"]) - int(metadata["monotonic_ns"])
        self.windows: list[Windows] = []
        self.spans: Callable[[], pa.Table | None] | None = None

    @property
    def label(self) -> str:
        return f"{self.host_name}, rank {self.rank}" if self.rank else str(self.folder)

    @property
    def cut(self) -> bool:
        """Whether its process ended before the run was stopped."""
        return any(t.tally.get("why_ended") == UNFINISHED for t in self.result.traces)

    def shift(self, by_ns: int, first_handle: int) -> int:
        """Take windows and spans on the time axis of the set; the next free handle comes back."""
        own = [w for part in self.result.stretches().values() for w in part]
        self.windows = [
            Windows(w.name, first_handle + i, w.begin_ns + by_ns, w.end_ns + by_ns, w.amounts)
            for i, w in enumerate(own)
        ]
        given = self.result._given_spans
        self.spans = None if given is None else partial(_shifted_spans, given, by_ns)
        return first_handle + len(own)


class Host:
    """The runs on one machine, since one boot."""

    def __init__(self, name: str, members: list[Member]) -> None:
        self.name, self.members = name, members
        self.offset_ns = int(median(m.offset_ns for m in members))
        self.spread_ns = max(m.offset_ns for m in members) - min(m.offset_ns for m in members)
        self.traces: list[Trace] = []
        self.shift_ns = 0  # from its own monotonic clock to the time axis of the set

    @property
    def begin_ns(self) -> int:
        """On the wall clock."""
        return min(m.result.start_ns for m in self.members) + self.offset_ns

    def merge(self, by_ns: int, prefix: str) -> list[str]:
        """Make the traces of its physical counters; notes come back."""
        self.shift_ns = by_ns
        copies = [Copy(m.label, trace) for m in self.members for trace in m.result.traces]
        found, notes = merged_traces(copies)
        self.traces = [_shifted(trace, by_ns, prefix) for trace in found]
        return [prefix + note if prefix else note for note in notes]

    def result(self, members: list[Member], spans: Callable[[], pa.Table | None] | None = None) -> Result:
        """The windows of some members with the energy of this host."""
        windows = [w for m in members for w in m.windows]
        first = self.members[0].result
        begin_ns, end_ns = first.start_ns + self.shift_ns, first.end_ns + self.shift_ns
        metadata = shifted_clock(first.metadata, self.shift_ns)
        return Result(self.traces, windows, metadata, begin_ns, end_ns, [], spans)


class RunSet(Result):
    """Runs of one job, as `fastgreen.merge` and `fastgreen.load` give them; a `Result` of all of them together.

    Ids of channels begin with the host where there are several, and tables have columns ``host`` and ``rank``. A rank
    is text, empty for a run that no launcher started.

    Attributes
    ----------
    clock_uncertainty_s : float or None
        How far the times of two hosts can be apart: what their wall clocks report as their error and how much they
        drifted, and the difference between the first readings. None where a clock reports no error. 0 for one host.
    """

    def __init__(self, found: list[tuple[Path, Result]], notes: list[str]) -> None:
        members, repeated = _once([Member(folder, result) for folder, result in found])
        self.hosts = _hosts(members)
        reference = self._reference = min(self.hosts, key=lambda host: host.begin_ns)
        handle, merged = 0, []
        for host in self.hosts:
            by_ns = self._shift_ns(host)
            merged += host.merge(by_ns, f"{host.name}/" if len(self.hosts) > 1 else "")
            for member in host.members:
                handle = member.shift(by_ns, handle)
        self.clock_uncertainty_s = _uncertainty_s(self.hosts)
        first = reference.members[0].result
        super().__init__(
            [trace for host in self.hosts for trace in host.traces],
            [w for m in members for w in m.windows],
            {**first.metadata, "runs": len(members), "hosts": [host.name for host in self.hosts]},
            first.start_ns,
            first.end_ns,
            [*notes, *repeated, *merged, *self._about(members)],
        )

    def _about(self, members: list[Member]) -> list[str]:
        out = [f"{m.label} ended early: {UNFINISHED}" for m in members if m.cut]
        out += [f"{m.label}: {note}" for m in members for note in m.result.given_notes]
        places = [m.launch for m in members if m.launch.rank is not None]
        jobs = sorted({place.job for place in places if place.job})
        if len(jobs) > 1:
            out.append(f"these are runs of {len(jobs)} jobs: {', '.join(jobs[:10])}")
        size = max((place.size or 0 for place in places), default=0)
        absent = sorted(set(range(size)) - {place.rank for place in places})
        if absent:
            listed = ", ".join(map(str, absent[:20])) + (", ..." if len(absent) > 20 else "")
            out.append(f"{f'ranks {listed}' if len(absent) > 1 else f'rank {listed}'} of {size} left no run")
        if len(self.hosts) > 1:
            known = self.clock_uncertainty_s
            far = "an unknown time, because one reports no error" if known is None else f"{known:.3g} s"
            out.append(f"times of different hosts come from their wall clocks and can be apart by {far}")
        return out

    # ---- tables ----

    def windows(self, name: str | None = None, per_channel: bool = False) -> pa.Table:
        """A row per stretch of a window, as `Result.windows`, with ``host`` and ``rank``.

        A window holds the energy of its own host. Times are on the time axis of the set.
        """
        self._named(name)
        parts = []
        for host, member in self._members():
            own = host.result([member])
            if name is None or name in own.names:
                parts.append(located(own.windows(name, per_channel), host.name, member.rank))
        return together(parts) if parts else super().windows(name, per_channel)

    def summary(self) -> pa.Table:
        """A row per host and window name, as `Result.summary`, of the windows of all ranks of the host."""
        parts = [located(host.result(host.members).summary(), host.name) for host in self.hosts if host.members]
        return together([part for part in parts if part.num_rows] or parts[:1])

    @cached_property
    def _shared(self) -> list[tuple[str, Result]]:
        """Each host's result with the spans of all its ranks, so that they share its energy."""
        out = []
        for host in self.hosts:
            tables = [_ranked(m.spans(), i, m.rank) for i, m in enumerate(host.members) if m.spans is not None]
            tables = [table for table in tables if table is not None]
            if tables:
                pieces = pa.concat_tables(tables).unify_dictionaries()
                out.append((host.name, host.result(host.members, partial(_given, pieces))))
        return out

    @property
    def ledger_names(self) -> list[str]:
        """The names of the ledgers, in the order of their first use."""
        return list(dict.fromkeys(name for _, result in self._shared for name in result.ledger_names))

    def spans(self, name: str, by: Literal["phase", "channel"] | None = None) -> pa.Table:
        """A row per span, as `Result.spans`, with ``host`` and ``rank``. Spans of all ranks of a host share its energy.

        The metadata hold the energies of all hosts together.
        """
        parts = []
        for host, result in self._shared:
            if name in result.ledger_names:
                table = result.spans(name, by)
                ranks = pc.split_pattern(table.column("id"), _BEFORE_ID, max_splits=1)
                at = table.schema.get_field_index("id")
                table = table.set_column(at, "id", pc.list_element(ranks, 1))
                parts.append(located(table, host, pc.list_element(ranks, 0)))
        if not parts:
            raise KeyError(f"the runs have no ledger {name!r}; there are {self.ledger_names or 'none'}")
        return together(parts)

    def share(
        self,
        table: Any,
        begin: str = "begin_ns",
        end: str = "end_ns",
        weight: str | None = None,
        clock: Literal["monotonic", "realtime"] = "monotonic",
        channels: str | Iterable[str] | None = None,
        baseline_w: float | Mapping[str, float] | None = None,
        *,
        per_channel: bool = False,
    ) -> pa.Table:
        """Share the energy of the runs among spans, as `Result.share`; each span pays for energy of its own host.

        Parameters
        ----------
        table, begin, end, weight, clock, channels, baseline_w, per_channel
            As for `Result.share`. If the runs are of several hosts, the table has a column ``host``, and a baseline
            names its channels. ``clock="monotonic"`` is the time axis of the set, as its other tables give it.

        Raises
        ------
        ValueError
            As `Result.share`; without a column ``host``, and for a host that has no run.
        """
        if len(self.hosts) == 1:
            return super().share(table, begin, end, weight, clock, channels, baseline_w, per_channel=per_channel)
        results = {host.name: host.result([]) for host in self.hosts}
        rules = {"weight": weight, "clock": clock, "per_channel": per_channel}
        return share_by_host(results, table, begin, end, channels=channels, baseline_w=baseline_w, **rules)

    @cached_property
    def ledgers(self) -> pa.Table:
        """The spans of each ledger together, as `Result.ledgers`, with a row for each host."""
        return together([located(result.ledgers, host) for host, result in self._shared])

    def _members(self) -> Iterator[tuple[Host, Member]]:
        return ((host, member) for host in self.hosts for member in host.members)

    # ---- files ----

    def save(self, path: str | os.PathLike) -> None:
        """Write the set as a folder of run folders, which `load` opens as this set.

        The first run of each host holds the samples of the host's counters, the others only windows and spans.

        Raises
        ------
        FileExistsError
            When a folder holds a run already.
        OSError
            When it cannot be written.
        """
        folder = Path(path_text("path", path))
        for host in self.hosts:
            for i, member in enumerate(host.members):
                traces = [] if i else [_named_without(trace, f"{host.name}/") for trace in host.traces]
                name = f"{host.name}-{member.rank or i}".replace("/", "_")
                notes = [*self.given_notes] if host is self.hosts[0] and not i else []
                spans = member.spans() if member.spans is not None else None
                span = self.start_ns, max(self.end_ns, self.start_ns)
                metadata = shifted_clock(member.result.metadata, host.shift_ns)
                save_run(_free(folder / name), traces, member.windows, metadata, notes, span, spans)

    def _shift_ns(self, host: Host) -> int:
        return host.offset_ns - self._reference.offset_ns

    def write_dataset(self, path: str | os.PathLike) -> None:
        """Write ``windows``, ``channels`` and ``spans`` as Parquet, each a folder with partitions host and rank.

        DuckDB: ``select * from 'DIR/windows/**/*.parquet'``; Polars: ``read_parquet("DIR/windows")``.

        Raises
        ------
        FileExistsError
            When the folder has files already.
        """
        import pyarrow.dataset as ds

        folder = Path(path_text("path", path))
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} has files already; choose another folder or remove it")
        channels = [located(host.result([]).channels, host.name, "") for host in self.hosts]
        tables = {"channels": together(channels), "windows": self.windows()}
        for name in self.ledger_names:
            spans = self.spans(name)
            tables["spans"] = together(
                [
                    *([tables["spans"]] if "spans" in tables else []),
                    spans.append_column("ledger", repeated(name, spans.num_rows)),
                ]
            )
        by = ds.partitioning(pa.schema([("host", pa.string()), ("rank", pa.string())]), flavor="hive")
        for name, table in tables.items():
            if table.num_rows:
                ds.write_dataset(table, folder / name, format="parquet", partitioning=by)

    def __repr__(self) -> str:
        runs, hosts = counted(self.metadata["runs"], "run"), counted(len(self.hosts), "host")
        return f"<fastgreen.RunSet: {self.energy_j:.4g} J of {runs} on {hosts}>"


def _once(members: list[Member]) -> tuple[list[Member], list[str]]:
    """The members without copies of a run, by rank, and notes."""
    found: dict[str, Member] = {}
    notes = []
    for member in members:
        if found.setdefault(repr(sorted(member.result.metadata.items())), member) is not member:
            notes.append(f"{member.folder} is a copy of another run and is left out")
    return sorted(found.values(), key=lambda m: (-1 if m.launch.rank is None else m.launch.rank, str(m.folder))), notes


def _hosts(members: list[Member]) -> list[Host]:
    by_boot: dict[str, list[Member]] = {}
    for member in members:
        by_boot.setdefault(member.boot, []).append(member)
    names: dict[str, int] = {}
    out = []
    for own in by_boot.values():
        name = own[0].host_name
        names[name] = names.get(name, 0) + 1
        out.append(Host(name if names[name] == 1 else f"{name}#{names[name]}", own))
    return out


def _uncertainty_s(hosts: list[Host]) -> float | None:
    if len(hosts) == 1:
        return 0.0
    given = [m.result.metadata.get("clock_error_s") for host in hosts for m in host.members]
    errors = [float(error) for error in given if is_number(error)]
    if len(errors) < len(given):
        return None
    begins = [host.begin_ns for host in hosts]
    drift = sum(sorted(host.spread_ns for host in hosts)[-2:]) + max(begins) - min(begins)
    return drift / NS_PER_S + 2 * max(errors)


def _shifted(trace: Trace, by_ns: int, prefix: str) -> Trace:
    channel = trace.channel
    if prefix:
        channel = replace(channel, id=prefix + channel.id, parent=channel.parent and prefix + channel.parent)
    tally = dict(trace.tally)
    for name in ("first_at_ns", "last_at_ns", "end_at_ns"):
        if tally.get(name):
            tally[name] += by_ns
    if tally.get("still_ns"):
        tally["still_ns"] = [[at + by_ns for at in pair] for pair in tally["still_ns"]]
    if tally.get("in_turn_ns"):
        tally["in_turn_ns"] = [at + by_ns for at in tally["in_turn_ns"]]
    source = partial(_shifted_chunks, trace.source, by_ns) if by_ns else trace.source
    return Trace(channel, trace.counted, tally, source)


def _shifted_chunks(source: Callable[[], Any], by_ns: int) -> Iterator[np.ndarray]:
    for chunk in source():
        moved = chunk.copy()
        moved["at_ns"] += by_ns
        yield moved


def _shifted_spans(given: Callable[[], pa.Table | None], by_ns: int) -> pa.Table | None:
    table = given()
    if table is None or not by_ns:
        return table
    for name in ("start_ns", "end_ns"):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pc.add(table.column(name), by_ns))
    return table


def _given(table: pa.Table) -> pa.Table:
    return table


def _ranked(table: pa.Table | None, index: int, rank: str) -> pa.Table | None:
    """Pieces of spans with numbers of their own, and the rank before each id."""
    if table is None:
        return None
    number, identity = table.column("number"), table.column("id")
    is_span = pc.greater_equal(number, 0)
    number = pc.if_else(is_span, pc.add(number, index * _NUMBERS), number)
    identity = pc.if_else(is_span, pc.binary_join_element_wise(pa.scalar(rank), identity, _BEFORE_ID), identity)
    for name, column in (("number", number), ("id", identity)):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), column)
    return table


def _named_without(trace: Trace, prefix: str) -> Trace:
    channel = trace.channel
    parent = channel.parent and channel.parent.removeprefix(prefix)
    channel = replace(channel, id=channel.id.removeprefix(prefix), parent=parent)
    return Trace(channel, trace.counted, trace.tally, trace.source)


def _free(folder: Path) -> Path:
    number = 1
    while (folder.with_name(f"{folder.name}-{number}") if number > 1 else folder).exists():
        number += 1
    return folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
