"""The spans of a run's ledgers: how they are written down, and as columns to share among.

A row is a piece of a span: a stretch of one phase and one weight. A ledger's first row, of number -1, says in its id
which channels it shares and which baseline it sets apart.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastgreen._light_dataclass import dataclass
from fastgreen.errors import TraceError
from fastgreen.guards.printable import encodable
from fastgreen.results import run_folder
from fastgreen.results.activity import activity_of, codes_of, edges_of
from fastgreen.results.load_states import merged_edges
from fastgreen.results.run_checks import EARLIEST_NS, LATEST_NS
from fastgreen.results.shares import Spans, weight_units

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fastgreen.results.bounded import Windows

__all__ = [
    "SPANS_FILE",
    "LedgerSpans",
    "activity_of_all",
    "definition_batch",
    "ledgers_of",
    "span_batch",
    "stored_spans",
]

SPANS_FILE = run_folder.SPANS_FILE
SPANS = run_folder.SPANS
_MOST_AMOUNTS = 64  # names of one ledger; more would be ids by mistake


def id_text(identity: str | int | bytes) -> str:
    """An id as it is shown and kept."""
    if isinstance(identity, bytes):
        return identity.decode("utf-8", "backslashreplace")
    return encodable(identity) if isinstance(identity, str) else str(identity)


def definition_batch(name: str, definition: dict[str, Any], schema: pa.Schema = SPANS) -> pa.RecordBatch:
    """The row that says what a ledger shares."""
    return _batch(name, [[-1], [json.dumps(definition)], [0], [0], [False], [None], [0.0], [None]], schema)


def span_batch(
    name: str,
    rows: NDArray[np.void],
    ids: Sequence[Any],
    details: Sequence[Any],
    still_open: bool = False,
    schema: pa.Schema = SPANS,
) -> pa.RecordBatch:
    """What `Ledger.take` gave, as a record batch."""
    if not any(details):
        count = len(rows)
        ends = [None] * count if still_open else rows["end_ns"]
        last = np.ones(count, bool)
        texts = [id_text(i) for i in ids]
        plain = [rows["number"], texts, rows["begin_ns"], ends, last, [None] * count, rows["weight"], [None] * count]
        return _batch(name, plain, schema)
    columns: list[Any] = [[] for _ in range(8)]
    for row, identity, pieces in zip(rows.tolist(), ids, details, strict=True):
        number, begin_ns, end_ns, weight = row
        found = pieces or [(begin_ns, None, weight, None)]
        ends = [*(piece[0] for piece in found[1:]), end_ns]
        for i, ((start, phase, piece_weight, amounts), end) in enumerate(zip(found, ends, strict=True)):
            values = (number, id_text(identity), start, end, i == len(found) - 1, phase and encodable(phase))
            for column, value in zip(columns, (*values, piece_weight, amounts and list(amounts.items())), strict=True):
                column.append(value)
    return _batch(name, columns, schema)


def _batch(name: str, columns: list[Any], schema: pa.Schema) -> pa.RecordBatch:
    """The columns of the schema behind the ledger's name."""
    arrays = [run_folder.named(name, len(columns[0]))]
    for field, column in zip(list(schema)[1:], columns, strict=True):
        is_code = pa.types.is_dictionary(field.type)
        arrays.append(pa.array(column, pa.string()).dictionary_encode() if is_code else pa.array(column, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def stored_spans(path: Path) -> pa.Table | None:
    """The pieces in a run folder; None where there is no file of them. TraceError for a damaged one."""
    if not path.exists():
        return None
    table = pa.Table.from_batches(list(run_folder.read_columns(path, SPANS)), schema=SPANS).unify_dictionaries()
    for name in ("ledger", "number", "id", "start_ns", "last", "weight"):
        if table.column(name).null_count:
            raise TraceError(f"{path} is damaged: a value of {name} is missing")
    for name in ("start_ns", "end_ns"):
        column = pc.drop_null(table.column(name))
        if len(column) and not (pc.min(column).as_py() >= EARLIEST_NS and pc.max(column).as_py() <= LATEST_NS):
            raise TraceError(f"{path} is damaged: {name} is no instant of a run")
    return table


@dataclass
class LedgerSpans:
    """The spans of one ledger.

    Attributes
    ----------
    name : str
    definition : dict
        ``channels``, ``baseline_w`` and ``weights``, as of `Monitor.ledger`.
    ids : list of str
        Of each span.
    pieces : Spans
        All pieces in the order of spans.
    phases : list of str or None
        Of each piece.
    amounts : dict of str to array
        Of each piece; NaN where it has none of that name.
    notes : list of str
    """

    name: str
    definition: dict[str, Any]
    ids: list[str]
    pieces: Spans
    weights: NDArray[np.float64]
    phases: list[str | None]
    amounts: dict[str, NDArray[np.float64]]
    notes: list[str]


def ledgers_of(table: pa.Table | None, end_ns: int) -> list[LedgerSpans]:
    """The ledgers of a run, in the order of their first rows; what was never closed ends with the run."""
    if table is None:
        return []
    names = dict.fromkeys(table.column("ledger").to_pylist())
    out = []
    for name in names:
        rows = table.filter(pc.equal(table.column("ledger").cast(pa.string()), name))
        out.append(_ledger(name, rows, end_ns))
    return out


def _ledger(name: str, rows: pa.Table, end_ns: int) -> LedgerSpans:
    number = np.asarray(rows.column("number"))
    definition = _definition(name, [rows.column("id")[int(i)].as_py() for i in np.flatnonzero(number < 0)])
    begin = np.asarray(rows.column("start_ns"))
    ends = rows.column("end_ns")
    never = np.asarray(ends.is_null())
    closed = np.unique(number[~never & np.asarray(rows.column("last"))])
    keep = (number >= 0) & ~(never & np.isin(number, closed))
    notes = []
    if left := int(np.sum(keep & never)):
        notes.append(f"{left} of the spans of ledger {name!r} were never closed and end with the run")
    end = np.where(never, np.maximum(end_ns, begin), np.asarray(ends.fill_null(0)))
    order = np.flatnonzero(keep)
    order = order[np.lexsort((order, begin[order], number[order]))]
    if np.any(end[order] < begin[order]):
        raise TraceError(f"the spans of ledger {name!r} are damaged: a piece ends before it begins")
    begin, end, number = begin[order], end[order], number[order]
    weights = np.asarray(rows.column("weight"))[order]
    phases, ids = (rows.column(c).cast(pa.string()).to_pylist() for c in ("phase", "id"))
    _, first, span = np.unique(number, return_index=True, return_inverse=True)
    try:
        units = weight_units(weights)
    except ValueError as error:
        raise TraceError(f"the spans of ledger {name!r} are damaged: {error}") from error
    same = span[1:] == span[:-1]
    if np.any(end[:-1][same] != begin[1:][same]):
        raise TraceError(f"the spans of ledger {name!r} are damaged: the pieces of a span do not follow each other")
    pieces = Spans(begin, end, units, span.astype(np.uint32), np.ones(len(first), bool))
    listed = rows.column("amounts").to_pylist()
    amounts = _amounts([listed[i] for i in order.tolist()])
    return LedgerSpans(
        name, definition, [ids[i] for i in order[first].tolist()], pieces, weights,
        [phases[i] for i in order.tolist()], amounts, notes,
    )  # fmt: skip


def _definition(name: str, texts: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {"channels": None, "baseline_w": None, "weights": "known"}
    for text in texts:
        try:
            out.update(json.loads(text))
        except (TypeError, ValueError) as error:
            raise TraceError(f"the definition of ledger {name!r} is damaged: {error}") from error
    return out


def _amounts(listed: list[list[tuple[str, float]] | None]) -> dict[str, NDArray[np.float64]]:
    out: dict[str, NDArray[np.float64]] = {}
    for i, pairs in enumerate(listed):
        for key, value in pairs or ():
            if key not in out:
                if len(out) == _MOST_AMOUNTS:
                    raise TraceError(f"a ledger has more than {_MOST_AMOUNTS} names of amounts")
                out[key] = np.full(len(listed), np.nan)
            out[key][i] = value
    return out


def activity_of_all(ledgers: Sequence[LedgerSpans]) -> tuple[list[Windows], NDArray[np.int64]]:
    """What some ledgers did, as windows, and all instants at which a span begins or ends."""
    did = [
        w for ledger in ledgers for w in activity_of(f"ledger {ledger.name}", ledger.pieces, codes_of(ledger.phases))
    ]
    edges_ns = [edges_of(ledger.pieces) for ledger in ledgers]
    return did, merged_edges(edges_ns)
