"""Reading and writing of tables: Arrow, Parquet, CSV and pandas become a ``pyarrow.Table``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastgreen.atomic_file import new_file
from fastgreen.errors import TraceError
from fastgreen.guards.untrusted import name_of_regular
from fastgreen.units import J_PER_KWH, J_PER_WH

__all__ = ["JOULES_PER", "column", "inert", "joules_per_unit", "load_table", "save_arrow", "save_table"]

# OWASP, "CSV Injection": first characters of a formula in Excel, LibreOffice and Google Sheets.
_FORMULA = r"^[=+\-@\t\r]"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"

JOULES_PER = {"mJ": 1e-3, "J": 1.0, "kJ": 1e3, "MJ": 1e6, "GJ": 1e9, "Wh": J_PER_WH, "kWh": J_PER_KWH}
_UNIT = re.compile(r"[(\[]\s*(GJ|MJ|kJ|mJ|J|kWh|Wh)\s*[)\]]\s*$|_(kwh|wh|mj|kj|j)$")
_SUFFIX = {"kwh": J_PER_KWH, "wh": J_PER_WH, "kj": 1e3, "j": 1.0}

# CodeCarbon's names have no unit.
_KNOWN_KWH = frozenset({"energy_consumed", "cpu_energy", "gpu_energy", "ram_energy"})


def load_table(source: Any) -> pa.Table:
    """Read a table from a file or a Python object.

    Parameters
    ----------
    source : path, pyarrow.Table, pandas.DataFrame or mapping of str to list
        The first bytes of a file decide its format: Parquet, Arrow file, Arrow stream, else CSV (a .tsv has tabs).

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    TraceError
        If the file cannot be read or is not a table, or two columns have the same name.
    TypeError
        If `source` is neither a path nor a table.
    """
    table = _any_table(source)
    twice = next((name for name, count in Counter(table.column_names).items() if count > 1), None)
    if twice is not None:
        raise TraceError(f"{source if isinstance(source, (str, Path)) else 'table'}: two columns are called {twice!r}")
    return table


def _any_table(source: Any) -> pa.Table:
    if isinstance(source, pa.Table):
        return source
    if isinstance(source, (str, Path)):
        return _load_file(Path(source))
    if hasattr(source, "__arrow_c_stream__"):
        return pa.table(source)
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        return pa.Table.from_pandas(source, preserve_index=False)
    if isinstance(source, dict):
        return pa.table(source)
    raise TypeError(
        f"source must be a path, an Arrow or pandas table or a dict of columns, not {type(source).__name__}"
    )


def _load_file(path: Path) -> pa.Table:
    try:
        with name_of_regular(path) as name:
            table = _read_file(name, path)
            table.validate(full=True)  # an offset outside its buffer would crash the process
            return table
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise TraceError(f"{path} is not a table: {error}") from None
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None


def _read_file(name: str, path: Path) -> pa.Table:
    """The table in the file `name`, whose own name is `path`."""
    from pyarrow import csv, parquet

    with open(name, "rb") as stream:
        magic = stream.read(6)
    if magic.startswith(b"PAR1"):
        with open(name, "rb") as stream:
            return parquet.read_table(stream)
    if magic.startswith(b"ARROW1"):
        return pa.ipc.open_file(pa.memory_map(name)).read_all()
    if magic.startswith(b"\xff\xff\xff\xff"):
        return pa.ipc.open_stream(pa.memory_map(name)).read_all()
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    packed = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}.get(path.suffix.lower())
    table = csv.read_csv(pa.input_stream(name, compression=packed), parse_options=csv.ParseOptions(delimiter=delimiter))
    table.schema.names  # noqa: B018 - raises where they are no text
    return table


def save_table(table: pa.Table, path: str | Path) -> None:
    """Write a table as CSV or Parquet if the name ends so, else as Arrow IPC; the file is complete or absent."""
    from pyarrow import csv, parquet

    writers = {".csv": lambda rows, place: csv.write_csv(inert(rows), place), ".parquet": parquet.write_table}
    _save(table, path, writers.get(Path(path).suffix, _write_arrow))


def save_arrow(table: pa.Table, path: str | Path) -> None:
    """Write a table as Arrow IPC, with any name; complete or not at all."""
    _save(table, path, _write_arrow)


def _save(table: pa.Table, path: str | Path, write: Callable[[pa.Table, str], None]) -> None:
    with new_file(path, overwrite=True, devices=True) as place:
        write(table, place)


def _write_arrow(table: pa.Table, place: str) -> None:
    with pa.OSFile(place, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def inert(table: pa.Table) -> pa.Table:
    """Make a table safe for CSV: an apostrophe before texts that a spreadsheet would read as a formula.

    Numbers are not changed, even numbers in text ("-3").
    """
    columns = []
    for values in table.columns:
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            formula = pc.and_not(pc.match_substring_regex(values, _FORMULA), pc.match_substring_regex(values, _NUMBER))
            values = pc.if_else(formula, pc.binary_join_element_wise("'", values, ""), values)
        columns.append(values)
    names = [f"'{name}" if re.match(_FORMULA, name) else name for name in table.column_names]
    return pa.Table.from_arrays(columns, names)


def column(table: pa.Table, name: str, argument: str) -> np.ndarray:
    """Get a numeric column as (n,) float64; if it is missing or not numeric, a ValueError names `argument`."""
    if name not in table.column_names:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, table.column_names))}, not {name!r}")
    values = table.column(name)
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)):
        raise ValueError(f"{argument}: column {name!r} must hold numbers, not {values.type}")
    return values.cast(pa.float64()).to_numpy()


def joules_per_unit(table: pa.Table, name: str, unit: str | None) -> float:
    """Joules in one unit of a column: from `unit`, the field's metadata, or the name ("energy (MJ)", "energy_j").

    The columns of CodeCarbon, such as "energy_consumed", are in kWh.
    """
    metadata = table.schema.field(name).metadata or {}
    unit = unit or (metadata.get(b"unit") or b"").decode() or None
    if unit is not None:
        if unit not in JOULES_PER:
            raise ValueError(f"energy_unit must be one of {', '.join(JOULES_PER)}, not {unit!r}")
        return JOULES_PER[unit]
    if name in _KNOWN_KWH:
        return J_PER_KWH
    match = _UNIT.search(name)
    if match is None or match[2] == "mj":
        raise ValueError(f"energy_unit must be given for column {name!r}: one of {', '.join(JOULES_PER)}")
    return JOULES_PER[match[1]] if match[1] else _SUFFIX[match[2]]
