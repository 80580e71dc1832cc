"""Tables of several hosts as one table, and spans that pay for the energy of their own host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastgreen.results.share_table import chosen_traces

if TYPE_CHECKING:
    from fastgreen.results.result import Result

__all__ = ["HOST", "located", "repeated", "share_by_host", "together"]

HOST = "host"
_SUMS = (b"unattributed_j", b"baseline_j", b"drawn_j")
_LISTS = (b"channels", b"notes")


def repeated(value: str, rows: int) -> pa.Array:
    """A column with one value."""
    return pa.repeat(pa.scalar(value, pa.string()), rows)


def located(table: pa.Table, host: str, rank: Any = None) -> pa.Table:
    """The table with columns of its host, and of its rank if there is one: a text, or a column."""
    table = table.append_column(HOST, repeated(host, table.num_rows))
    if rank is None:
        return table
    return table.append_column("rank", repeated(rank, table.num_rows) if isinstance(rank, str) else rank)


def together(tables: list[pa.Table]) -> pa.Table:
    """One table of all rows; the energies in the metadata of the schemas are added up."""
    if not tables:
        return pa.table({})
    known = [table.schema.metadata or {} for table in tables]
    whole = dict(known[0])
    for key in _SUMS:
        if key in whole:
            whole[key] = repr(sum(float(one[key]) for one in known if key in one)).encode()
    for key in _LISTS:
        if key in whole:
            listed = dict.fromkeys(text for one in known if key in one for text in json.loads(one[key]))
            whole[key] = json.dumps(list(listed)).encode()
    if b"estimated" in whole:
        whole[b"estimated"] = b"true" if any(one.get(b"estimated") == b"true" for one in known) else b"false"
    return pa.concat_tables(tables, promote_options="default").replace_schema_metadata(whole)


def _baseline(baseline_w: Any, channels: list[str]) -> dict[str, float] | None:
    """The powers of one host's channels."""
    if baseline_w is None:
        return None
    if not isinstance(baseline_w, Mapping):
        raise ValueError("baseline_w must give a power for each channel, because the runs are of several hosts")
    return {name: watts for name, watts in baseline_w.items() if name in channels}


def _check_baseline(baseline_w: Any, channels: list[str]) -> None:
    unknown = sorted(set(baseline_w) - set(channels)) if isinstance(baseline_w, Mapping) else []
    if unknown:
        raise ValueError(f"baseline_w must name channels that are shared, {channels}, not {unknown[0]!r}")


def share_by_host(
    results: dict[str, Result],
    table: Any,
    begin: str,
    end: str,
    *,
    channels: Any = None,
    baseline_w: Any = None,
    **options: Any,
) -> pa.Table:
    """The rows of each host with their shares of its energy, in the order of the table.

    Parameters
    ----------
    results : dict of Result
        The energy of each host, on one time axis.
    table, begin, end, channels, baseline_w, **options
        See `fastgreen.merge` and `fastgreen.Result.share`.
    """
    given = table if isinstance(table, pa.Table) else pa.table(table)
    if given.schema.names.count(HOST) != 1:
        raise ValueError(
            f"the table needs a column {HOST}, because the runs are of several hosts: {', '.join(results)}"
        )
    hosts = given.column(HOST).cast(pa.string())
    unknown = [name for name in pc.unique(hosts).to_pylist() if name is not None and name not in results]
    if unknown:
        raise ValueError(f"{HOST} must be one of {', '.join(results)}, not {unknown[0]!r}")
    wanted = _ids_by_host(results, channels)
    _check_baseline(baseline_w, [name for ids in wanted.values() for name in ids])
    parts, rows = [], []
    for name, result in results.items():
        own = pc.fill_null(pc.equal(hosts, name), False)
        place = np.flatnonzero(own.to_numpy())
        settings = {"channels": wanted[name], "baseline_w": _baseline(baseline_w, wanted[name]), **options}
        try:
            part = result.share(given.take(place), begin, end, **settings)
        except ValueError as error:
            raise ValueError(f"rows of host {name}: {error}") from None
        parts.append(part)
        rows.append(np.tile(place, part.num_rows // max(1, len(place))))
    nowhere = np.flatnonzero(pc.is_null(hosts).to_numpy())
    if len(nowhere):
        parts.append(given.take(nowhere))
        rows.append(nowhere)
    return together(parts).take(np.argsort(np.concatenate(rows), kind="stable"))


def _ids_by_host(results: dict[str, Result], channels: Any) -> dict[str, list[str]]:
    """The ids of the shared channels of each host; ChannelNotFound for a name that no host has."""
    if channels is None:
        return {name: [t.channel.id for t in chosen_traces(result, None)] for name, result in results.items()}
    from fastgreen.sensors.catalog import select

    traces = [(name, t) for name, result in results.items() for t in result.traces if t.has_data]
    ids = {c.id for c in select([t.channel for _, t in traces], channels)[0]}
    return {name: [t.channel.id for host, t in traces if host == name and t.channel.id in ids] for name in results}
