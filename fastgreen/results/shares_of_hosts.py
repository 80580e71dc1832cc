# SPDX-License-Identifier: Apache-2.0
"""Shares of spans on several hosts: each span pays for energy of its own host only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastgreen.errors import ChannelNotFound
from fastgreen.results.share_table import share_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastgreen.results.energies import Energies

__all__ = ["share_by_host"]

_PLACE = "\x1fplace"


def share_by_host(results: Mapping[str, Energies], table: Any, *options: Any) -> pa.Table:
    """A table with a column ``host``, each part shared by the host's result; `options` as of `share_table`.

    Rows of a host without the channels have no energy.
    """
    given = table if isinstance(table, pa.Table) else pa.table(table)
    if "host" not in given.column_names:
        raise ValueError(f"table must have a column host, as the runs are of several: {', '.join(results)}")
    hosts = given.column("host").cast(pa.string())
    wrong = [name for name in pc.unique(hosts).to_pylist() if name not in results]
    if wrong:
        raise ValueError(f"host must be one of {', '.join(results)}, not {wrong[0]!r}")
    given = given.append_column(_PLACE, pa.array(np.arange(len(given))))
    parts, about, without, missing = [], [], [], None
    for name, result in results.items():
        own = given.filter(pc.equal(hosts, name))
        if not len(own):
            continue
        try:
            parts.append(share_table(result, own, *options))
            about.append(parts[-1].schema.metadata)
        except ChannelNotFound as error:  # a channel of another host
            missing = error
            without.append(own)
    if missing is not None and not parts:
        raise missing
    if not parts:
        return share_table(next(iter(results.values())), given.drop_columns([_PLACE]), *options)
    out = pa.concat_tables([*parts, *without], promote_options="default").sort_by(_PLACE).drop_columns([_PLACE])
    return out.replace_schema_metadata({**(given.schema.metadata or {}), **_joined(about)})


def _joined(about: list[dict[bytes, bytes]]) -> dict[str, str]:
    sums = {
        key: repr(sum(float(a[key.encode()]) for a in about)) for key in ("unattributed_j", "baseline_j", "drawn_j")
    }
    lists = {key: json.dumps([x for a in about for x in json.loads(a[key.encode()])]) for key in ("channels", "notes")}
    estimated = any(a[b"estimated"] == b"true" for a in about)
    return {**sums, **lists, "estimated": str(estimated).lower(), "rule": about[0][b"rule"].decode()}
