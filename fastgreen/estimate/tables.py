"""Tables of measured layers and networks: read, checked, in joules.

A :class:`Table` comes from the published CSV files (one per layer type, energy in kWh per forward pass) or from
``fastgreen collect`` (Arrow, joules with bounds).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastgreen.errors import TraceError
from fastgreen.estimate.counts import count
from fastgreen.estimate.layerfile import read_rows
from fastgreen.estimate.layers import KINDS, Columns, complete, whole
from fastgreen.table_files import load_table
from fastgreen.units import J_PER_KWH

__all__ = ["J_PER_KWH", "PUBLISHED", "MeasuredNetwork", "Table", "read_networks", "read_table", "read_tables"]

LEAST_ROWS = 10
Configuration = tuple[tuple[str, int], ...]  # the sizes of a layer, sorted by name
Place = tuple[str, int, int]  # network, batch size, and layer of a measurement; layer 0 is the whole network

# File name -> kind and size columns, in the order of the published models' features.
PUBLISHED = {
    "conv2d": ("Conv2d", ("image_size", "kernel_size", "in_channels", "out_channels", "stride", "padding")),
    "maxpool2d": ("MaxPool2d", ("image_size", "kernel_size", "in_channels", "stride", "padding")),
    "linear": ("Linear", ("input_size", "output_size")),
    "relu": ("ReLU", ("input_size",)),
    "sigmoid": ("Sigmoid", ("input_size",)),
    "tanh": ("Tanh", ("input_size",)),
    "softmax": ("Softmax", ("input_size",)),
}


MOST_J = 1e15  # a power station for two weeks; the squares of larger energies overflow


@dataclass(frozen=True)
class Table:
    """Measured layers of one kind.

    Attributes
    ----------
    kind : str
        The kind of layer.
    sizes : dict of str to int64 ndarray
        ``batch_size`` and the measured sizes, a value per row.
    energy_j : float64 ndarray
        Joules of one forward pass of the whole batch.
    source : str
        File that it was read from.
    estimated : bool
        Whether the energies come from an estimate and not from a sensor.
    """

    kind: str
    sizes: Columns
    energy_j: np.ndarray
    source: str = ""
    estimated: bool = False

    def __post_init__(self) -> None:
        if not (finite := np.isfinite(self.energy_j)).all():
            raise ValueError(f"{self.source or self.kind}: energy must be finite, unlike row {int(np.argmin(finite))}")
        if self.energy_j.size and (most := float(self.energy_j.max())) > MOST_J:
            where = f"{self.source or self.kind}: energy of row {int(np.argmax(self.energy_j))}"
            raise ValueError(f"{where} must be at most {MOST_J:g} J, not {most:g} J")

    def __len__(self) -> int:
        return len(self.energy_j)

    def check_fittable(self) -> None:
        """Raise a ValueError if the table has too few rows or constant energy."""
        what = self.source or self.kind
        if len(self.energy_j) < LEAST_ROWS:
            raise ValueError(f"{what} must have at least {LEAST_ROWS} rows to fit on, not {len(self)}")
        if self.energy_j.max() == self.energy_j.min():
            raise ValueError(
                f"{what}: energy must vary to be fitted on, not be {self.energy_j[0]:g} J in every row "
                "(was the channel read at all?)"
            )

    @property
    def columns(self) -> Columns:
        """All sizes, with defaults, as int64 columns."""
        return complete(self.kind, self.sizes, where=self.source or self.kind)

    def macs(self, convention: str = "table") -> np.ndarray:
        """Multiply-accumulates of each row, (rows,), see :func:`fastgreen.estimate.macs`."""
        return np.broadcast_to(count(self.kind, self.columns, convention), self.energy_j.shape)

    def matrix(self) -> np.ndarray:
        """Measured sizes as float64: a row per measurement and a column per size."""
        return np.column_stack([self.sizes[name].astype(np.float64) for name in self.sizes])

    def take(self, rows: np.ndarray) -> Table:
        """The table of these rows only: indices, or a bool for each row."""
        sizes = {name: value[rows] for name, value in self.sizes.items()}
        return Table(self.kind, sizes, self.energy_j[rows], self.source, self.estimated)


def read_table(path: str | Path, target: str = "cpu_energy") -> Table:
    """Read one published CSV file of layer energies.

    Parameters
    ----------
    path : path
        A file named as its layer type: ``conv2d.csv``, ``maxpool2d.csv``, ``linear.csv``, ``relu.csv``,
        ``sigmoid.csv``, ``tanh.csv`` or ``softmax.csv``.
    target : str
        The column of energy, in kWh per forward pass.

    Returns
    -------
    Table

    Raises
    ------
    ValueError
        If the file has another name or lacks a column, an energy is not finite, or a layer is impossible.
    """
    path = Path(path)
    if path.stem not in PUBLISHED:
        raise ValueError(f"{path} must be named {', '.join(name + '.csv' for name in PUBLISHED)}")
    kind, names = PUBLISHED[path.stem]
    names = ("batch_size", *names)
    table = _load(path, (*names, target))
    sizes = {name: whole(str(path), name, table[name].to_numpy()) for name in names}
    return Table(kind, sizes, _numbers(path, table, target) * J_PER_KWH, str(path))


def _load(path: str | Path, names: tuple[str, ...]) -> pa.Table:
    table = load_table(path)
    if missing := [name for name in names if name not in table.column_names]:
        raise ValueError(f"{path} must have a column {missing[0]!r}, not only {', '.join(table.column_names)}")
    return table


def _numbers(path: str | Path, table: pa.Table, name: str) -> np.ndarray:
    try:
        return table[name].cast(pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{path}: column {name!r} must hold numbers ({error})") from error


def read_tables(folder: str | Path, channel: str | None = None) -> dict[str, Table]:
    """Read every table of a folder: the published CSV files, or the ``layers.arrow`` of ``fastgreen collect``.

    Parameters
    ----------
    folder : path
        Folder with ``conv2d.csv``, ``linear.csv`` and so on, or with ``layers.arrow``.
    channel : str, optional
        For collected data, the channel of the energy; by default the total of the root channels. For published data,
        the column of the energy; by default ``cpu_energy``.

    Returns
    -------
    dict of str to Table
        By kind.

    Raises
    ------
    ValueError
        If the folder holds no table, or a table lacks the channel.
    TraceError
        If a file is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} must be a folder of layer tables")
    collected = folder / "layers.arrow"
    if collected.exists():
        return read_collected(collected, channel)
    files = [folder / f"{stem}.csv" for stem in PUBLISHED]
    tables = {
        table.kind: table for table in (read_table(path, channel or "cpu_energy") for path in files if path.exists())
    }
    if not tables:
        raise ValueError(f"{folder} must hold layers.arrow or one of {', '.join(path.name for path in files)}")
    return tables


def read_collected(path: Path, channel: str | None = None) -> dict[str, Table]:
    """Read ``layers.arrow`` of a collection. Repeats of one configuration are averaged; failed ones are left out."""
    measured: dict[str, dict[Configuration, list[dict[str, Any]]]] = {}  # the rows of each configuration, by kind
    for row in read_rows(path).to_pylist():
        if (row["passes"] or 0) > 0:
            _check_row(path, row)
            sizes = tuple(sorted((name, int(value)) for name, value in row["sizes"]))
            measured.setdefault(row["kind"], {}).setdefault(sizes, []).append(row)
    return {kind: _table_of(path, kind, rows_of, channel) for kind, rows_of in measured.items()}


def _table_of(path: Path, kind: str, rows_of: dict[Configuration, list[dict[str, Any]]], channel: str | None) -> Table:
    # After a change of the plan, later rows may have sizes that earlier rows left at their defaults.
    given = {name for configuration in rows_of for name, _ in configuration}
    names = [name for name in ("batch_size", *KINDS[kind].needs, *KINDS[kind].defaults) if name in given]
    full = [complete(kind, dict(configuration), where=str(path)) for configuration in rows_of]
    sizes = {name: np.array([int(columns[name]) for columns in full], dtype=np.int64) for name in names}
    energy = [np.mean([_energy_per_pass(path, row, channel) for row in rows]) for rows in rows_of.values()]
    estimated = any(row["estimated"] for rows in rows_of.values() for row in rows)
    return Table(kind, sizes, np.array(energy), f"{path} ({kind})", estimated)


def _energy_per_pass(path: Path, row: dict[str, Any], channel: str | None) -> float:
    by_id = {entry["id"]: entry["energy_j"] for entry in row["channels"]}
    if channel is not None and channel not in by_id:
        raise ValueError(f"channel must be one of {', '.join(by_id)} for {path}, not {channel!r}")
    return (row["energy_j"] if channel is None else by_id[channel]) / row["passes"]


def _check_row(path: Path, row: dict[str, Any]) -> None:
    """Raise TraceError for a row that no collection writes."""
    sizes, energy_j, channels = row["sizes"], row["energy_j"], row["channels"]
    if row["kind"] not in KINDS:
        raise TraceError(f"{path}: kind must be one of {', '.join(KINDS)}, not {row['kind']!r}")
    if sizes is None or any(value is None for _, value in sizes):
        raise TraceError(f"{path}: a {row['kind']} lacks a size")
    if channels is None or any(one is None or one["energy_j"] is None for one in channels) or energy_j is None:
        raise TraceError(f"{path}: a {row['kind']} lacks an energy")


@dataclass(frozen=True)
class MeasuredNetwork:
    """One measured network at one batch size.

    Attributes
    ----------
    name : str
        Name of the network.
    batch_size : int
    energy_j : float
        Joules of one forward pass of the whole batch.
    layers_j : dict of int to float
        The same for single layers, by their place (1 is the first); empty if only the network was measured.
    kinds : dict of int to str
        Kinds of those layers.
    dropped : int
        Repeats left out because they disagreed with the others.
    """

    name: str
    batch_size: int
    energy_j: float
    layers_j: dict[int, float]
    kinds: dict[int, str]
    dropped: int


_PROJECT = re.compile(
    r"module:(?P<kind>[^,]*),rep_no:\d+,macs:(?P<macs>\d+),batch_size:(?P<batch>\d+),"
    r"freeText:architecture=(?P<name>[^;]*);layer_idx=(?P<index>\d+),forward_passes:(?P<passes>\d+)"
)


def read_networks(
    *paths: str | Path, repeats: str = "agreeing", tolerance: float = 0.1, target: str = "cpu_energy"
) -> list[MeasuredNetwork]:
    """Read measured networks from the published raw files.

    Energy per pass is the column divided by the number of passes, averaged over the repeats of one network, batch and
    layer in all files together. Some repeats lack about half of their energy because the original meter mishandled a
    wrap of its counter (their mean power is 34 to 41 W, that of all others 75 W).

    Parameters
    ----------
    *paths : path
        ``0*_architectures-*.csv``.
    repeats : {"agreeing", "all", "median"}
        ``"agreeing"`` averages the repeats within `tolerance` of their median, ``"all"`` averages all repeats,
        ``"median"`` takes the median.
    tolerance : float
        Largest relative distance from the median of a repeat that agrees.
    target : str
        The energy column, in kWh.

    Returns
    -------
    list of MeasuredNetwork
        Sorted by name and batch.

    Raises
    ------
    ValueError
        If `repeats` is unknown, a column is missing, or an energy is not finite.
    TraceError
        If a name of a project cannot be parsed.
    """
    if repeats not in ("agreeing", "all", "median"):
        raise ValueError(f"repeats must be agreeing, all or median, not {repeats!r}")
    measured: dict[Place, list[float]] = {}
    kinds: dict[Place, str] = {}
    for path in paths:
        table = _load(path, ("project_name", target))
        projects = [str(project) for project in table["project_name"].to_pylist()]
        for row, (project, energy) in enumerate(zip(projects, _numbers(path, table, target), strict=True)):
            match = _PROJECT.fullmatch(project)
            if match is None or not int(match["passes"]):
                raise TraceError(f"{path}: project_name {project!r} cannot be parsed")
            if not np.isfinite(energy):
                raise ValueError(f"{path}: energy must be finite, unlike row {row}")
            key = (match["name"], int(match["batch"]), int(match["index"]))
            measured.setdefault(key, []).append(energy * J_PER_KWH / int(match["passes"]))
            kinds[key] = match["kind"]
    means = {place: _mean(np.array(energies), repeats, tolerance) for place, energies in measured.items()}
    networks = sorted({(name, batch) for name, batch, _ in measured})
    return [_network(name, batch, means, kinds) for name, batch in networks]


def _mean(energy_j: np.ndarray, repeats: str, tolerance: float) -> tuple[float, int]:
    """The mean, or the median, of repeats, and the number of those left out."""
    middle = np.median(energy_j)
    if repeats == "median":
        return float(middle), 0
    if repeats == "all" or not middle > 0:
        return float(energy_j.mean()), 0
    kept = energy_j[np.abs(energy_j / middle - 1) <= tolerance]
    kept = kept if len(kept) else energy_j
    return float(kept.mean()), len(energy_j) - len(kept)


def _network(name: str, batch: int, means: dict[Place, tuple[float, int]], kinds: dict[Place, str]) -> MeasuredNetwork:
    own = {place[2]: found for place, found in means.items() if place[:2] == (name, batch)}
    layers_j = {layer: energy_j for layer, (energy_j, _) in own.items() if layer}
    whole_j = own[0][0] if 0 in own else float("nan")
    of = {layer: kinds[name, batch, layer] for layer in layers_j}
    return MeasuredNetwork(name, batch, whole_j, layers_j, of, sum(dropped for _, dropped in own.values()))
