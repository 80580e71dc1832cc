"""The ledgers of one monitor: made on demand, emptied a few times a second, ended with the run."""

from __future__ import annotations

import math
import time

from fastgreen import _ledger, _steps
from fastgreen._ledger import current_span
from fastgreen.guards.arguments import number
from fastgreen.guards.printable import encodable
from fastgreen.measuring.final_spans import Deliveries
from fastgreen.units import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any, Protocol

    import pyarrow as pa

    from fastgreen import _window
    from fastgreen.measuring.ledger_sums import LedgerSums
    from fastgreen.measuring.live_shares import LiveShares
    from fastgreen.measuring.recorder import Recorder
    from fastgreen.measuring.still_watch import StillWatch
    from fastgreen.results.name_totals import LedgerTotal
    from fastgreen.results.open_folder import KeptFile
    from fastgreen.sensors.channel import Channel

    class Run(Protocol):
        """What is measured: a `LiveRun`."""

        channels: list[Channel]

        start_ns: int

        @property
        def ended(self) -> bool: ...
        @property
        def still_watches(self) -> Mapping[str, StillWatch]: ...
        def poke(self) -> None: ...


__all__ = ["Ledgers", "current_span", "kept_spans"]

_OPEN_S = 1.0
_POLL_S = 0.002
_WEIGHTS = ("known", "at close")


class Ledgers:
    """Hands out ledgers, and keeps or records the spans that were closed.

    Attributes
    ----------
    by_name : dict of str to Ledger
    kept : list
        What is not in a recording: (name, definition) of each ledger, then (name, what `Ledger.take` gave).
    """

    def __init__(self, gate: _window.Gate, keep: str = "samples") -> None:
        self.gate = gate
        self._totals: dict[str, LedgerSums] | None = {} if keep == "totals" else None
        self.by_name: dict[str, _steps.SteppedLedger] = {}
        self.kept: list[tuple[Any, ...]] = []
        self._defined: dict[str, dict[str, Any]] = {}
        self._ended: dict[str, int] = {}
        self._live: dict[str, LiveShares] = {}
        self._run: Run | None = None
        self._patience: dict[str, float] = {}
        self._hurried: dict[str, int] = {}
        self._outdated: dict[str, int] = {}
        self._deliveries: dict[str, Deliveries] = {}

    def ledger(
        self,
        name: str,
        channels: list[str] | None,
        baseline_w: float | Mapping[str, float] | None,
        weights: str,
        patience: float,
    ) -> _steps.SteppedLedger:
        """See `Monitor.ledger`."""
        if not isinstance(name, str):
            raise TypeError(f"a ledger's name must be a string, not {name!r}")
        if weights not in _WEIGHTS:
            raise ValueError(f'weights must be "known" or "at close", not {weights!r}')
        if not 0 < number("patience", patience) < math.inf:
            raise ValueError(f"patience must be a number of seconds above 0, not {patience!r}")
        baseline = _checked_baseline(baseline_w)
        found = self.by_name.get(encodable(name))
        if found is None:
            found = _steps.SteppedLedger(encodable(name), self.gate, channels, baseline, weights)
            found = self.by_name.setdefault(found.name, found)
            self._patience.setdefault(found.name, patience)
            found.deliver_by(self._deliveries.setdefault(found.name, Deliveries(found.name)))
            if self._run is not None:
                self._go_live(found)
        if (found.channels, found.baseline_w, found.weights) != (channels, baseline, weights):
            raise ValueError(
                f"ledger {name!r} was made with other channels, baseline_w or weights; ask for another name"
            )
        return found

    def go_live(self, run: Run) -> None:
        """From now on shares are worked out while the run goes on."""
        self._run = run
        for ledger in list(self.by_name.values()):
            self._go_live(ledger)

    def _go_live(self, ledger: _steps.SteppedLedger) -> None:
        assert self._run is not None
        from fastgreen.measuring.live_shares import LiveShares
        from fastgreen.sensors.catalog import counted_ids, select

        channels = self._run.channels
        wanted = (
            counted_ids(channels) if ledger.channels is None else {c.id for c in select(channels, ledger.channels)[0]}
        )
        shared = [c for c in channels if c.id in wanted]
        if shared and ledger.name not in self._live:
            sums = None
            if self._totals is not None:
                from fastgreen.measuring.ledger_sums import LedgerSums

                sums = LedgerSums(ledger, shared, self._run.start_ns, self._run.still_watches)
                self._totals[ledger.name] = sums
            self._live[ledger.name] = LiveShares(
                ledger, shared, self._patience[ledger.name], self._deliveries[ledger.name], sums
            )
            ledger.go_live(self._wait, phases=sums is not None)

    def _wait(self, span: _ledger.Span, timeout: float) -> None:
        """Have the rings emptied until the share of a span is known."""
        until = time.monotonic() + number("timeout", timeout)
        while span.settled is None and self._run is not None and not self._run.ended:
            self._run.poke()
            if time.monotonic() >= until:
                return
            time.sleep(_POLL_S)

    def share_live(self, samples: Mapping[str, bytearray]) -> None:
        """Share samples that were just taken out of the rings."""
        for shares in list(self._live.values()):
            shares.drain(samples)

    def finish_live(self) -> None:
        """The last samples were shared. Idempotent."""
        while self._live:
            name, shares = self._live.popitem()
            shares.finish()
            self._hurried[name], self._outdated[name] = shares.hurried, shares.outdated

    def end(self) -> None:
        """Close what is open: the run ends. Idempotent."""
        for name, ledger in list(self.by_name.items()):
            self._ended[name] = self._ended.get(name, 0) + ledger.end_all()

    @property
    def notes(self) -> list[str]:
        """What a reader of the shares should know, a sentence each."""
        out = []
        for name, ledger in list(self.by_name.items()):
            of = f"of ledger {name!r}"
            if count := self._ended.get(name):
                were = "was" if count == 1 else "were"
                out.append(
                    f"{counted(count, 'span')} {of} {were} still open at the end of the measurement and ended there"
                )
            if ledger.dropped:
                out.append(f"{counted(ledger.dropped, 'span')} {of} dropped without a close; each ended at that moment")
            if ledger.nested:
                out.append(
                    f"{counted(ledger.nested, 'span')} {of} opened within another span of the same ledger: both share "
                    "the energy. Use phases for the parts of one piece of work"
                )
            if count := self._hurried.get(name):
                out.append(
                    f"{counted(count, 'span')} {of} lasted longer than its patience, {self._patience[name]:g} s: "
                    "live shares used the weights of that moment"
                )
            if count := self._outdated.get(name):
                out.append(
                    f"{counted(count, 'share')} {of} {'was' if count == 1 else 'were'} worked out live with a shorter "
                    "update period than was seen later: bounds may have been too close"
                    + (". The result works them out again" if self._totals is None else "")
                )
            if name in self._deliveries:
                out += self._deliveries[name].notes
        return out + self._shared_twice()

    @property
    def totals(self) -> list[LedgerTotal]:
        """The totals of each ledger, where only totals are kept."""
        return [sums.total for sums in (self._totals or {}).values()]

    def _shared_twice(self) -> list[str]:
        used = [ledger for ledger in list(self.by_name.values()) if ledger.opened]
        if len(used) < 2:
            return []
        names = ", ".join(repr(ledger.name) for ledger in used)
        return [f"the ledgers {names} each share all energy of their channels: their sums do not add up"]

    def drain(self, recorder: Recorder | None) -> None:
        """Move what was closed to the recording or to memory."""
        for name, ledger in list(self.by_name.items()):
            rows, ids, details = ledger.take()
            if self._totals is not None:
                if name in self._totals:
                    self._totals[name].count(rows, details)
                continue
            definition = {"channels": ledger.channels, "baseline_w": ledger.baseline_w, "weights": ledger.weights}
            if ledger.rule:
                definition["rule"] = ledger.rule
            if self._defined.get(name) != definition:
                self._defined[name] = definition
                if not (recorder and recorder.define_ledger(name, definition)):
                    self.kept.append((name, definition))
            if recorder:  # so that a killed process leaves those that it had open, but for the last second
                still, names = ledger.take_open(_OPEN_S)
                if len(still):
                    recorder.add_spans(name, still, names, [None] * len(still), still_open=True)
            if len(rows) and not (recorder and recorder.add_spans(name, rows, ids, details)):
                self.kept.append((name, rows, ids, details))


def _checked_baseline(baseline_w: Any) -> float | dict[str, float] | None:
    given = baseline_w if isinstance(baseline_w, dict) else {"": baseline_w}
    for key, value in given.items():
        if value is not None and not 0 <= number("baseline_w", value) < math.inf:
            raise ValueError(f"baseline_w must be a number of watts from 0 on, not {value!r}")
        if isinstance(baseline_w, dict) and not isinstance(key, str):
            raise TypeError(f"baseline_w must have channels as its keys, not {key!r}")
    if isinstance(baseline_w, dict):
        return {k: float(v) for k, v in baseline_w.items()}
    return None if baseline_w is None else float(baseline_w)


def listed(channels: str | Iterable[str] | None) -> list[str] | None:
    """Channels as a list of ids and patterns."""
    from fastgreen.sensors.catalog import names_of

    return None if channels is None else names_of(channels)


def kept_spans(recorded: Path | KeptFile | None, kept: list[tuple[Any, ...]]) -> pa.Table | None:
    """The spans of a run: those on disk, then those in memory."""
    if recorded is None and not kept:
        return None
    import pyarrow as pa

    from fastgreen.results import ledger_spans
    from fastgreen.results.open_folder import KeptFile

    path = recorded.path if isinstance(recorded, KeptFile) else recorded
    stored = ledger_spans.stored_spans(path) if path is not None else None
    batches = [
        ledger_spans.definition_batch(*entry) if len(entry) == 2 else ledger_spans.span_batch(*entry) for entry in kept
    ]
    table = pa.Table.from_batches(batches, schema=ledger_spans.SPANS) if batches else None
    parts = [t for t in (stored, table) if t is not None]
    return pa.concat_tables(parts).unify_dictionaries() if parts else None
