"""Report of a GPU study as Markdown."""

from __future__ import annotations

from typing import Any

__all__ = ["summary"]


def _cell(value: object, scale: float = 1.0) -> str:
    return "-" if value is None else f"{float(value) * scale:.3g}"  # type: ignore[arg-type]


def _sensors(found: dict[str, Any]) -> list[str]:
    lines = [
        "| reading | state | update period (ms) | longest | jitter | quantum (J or W) | read (us) | p99 |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    refused = []
    for state in ("idle", "load"):
        for quantity, f in found.get(state, {}).items():
            if not f.get("samples"):
                refused.append(f"{quantity} at {state}: {f['why_ended'] or f['last_error']}.")
                continue
            cells = [_cell(f["period_s"], 1e3), _cell(f["period_longest_s"], 1e3), _cell(f["jitter_s"], 1e3)]
            cells += [_cell(f["quantum"]), _cell(f["read_s"], 1e6), _cell(f["read_p99_s"], 1e6)]
            lines.append(f"| {quantity} | {state} | {' | '.join(cells)} |")
    lines += ["", *refused]
    for quantity, fit in found.get("averaging", {}).items():
        if fit is None:
            lines.append(f"{quantity}: its averaging window could not be determined.")
            continue
        lines.append(
            f"{quantity}: a mean over {fit['window_s'] * 1e3:.0f} ms, {fit['delay_s'] * 1e3:.0f} ms old, between "
            f"{fit['low_w']:.0f} and {fit['high_w']:.0f} W ({fit['residual']:.1%} unexplained)."
        )
    return lines


def _against(same: dict[str, Any]) -> list[str]:
    return [
        f"Against nvidia-ml-py: {same['compared']} readings compared, {same['outside']} outside; {same['ours_mj']} mJ "
        f"and {same['theirs_mj']} mJ over about the same time; its call takes {same['their_call']['p50_us']:.3g} us."
    ]


def _fields(found: dict[str, Any]) -> list[str]:
    lines = ["| field | answer |", "|---|---|"]
    return lines + [
        f"| {name} | {', '.join(f'{k} {v}' for k, v in answer.items())} |" for name, answer in found.items()
    ]


def _launches(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return ["Launch latency: no load, so nothing to launch."]
    lines = ["| sampling every | launches | p50 (us) | p99 | p99.9 | mean | p50 ratio | p99 ratio | mean ratio |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for rate, row in found.items():
        cells = [row[n] for n in ("p50_us", "p99_us", "p999_us", "mean_us")]
        cells += [row.get(n, 1.0) for n in ("p50_ratio", "p99_ratio", "mean_ratio")]
        lines.append(f"| {rate} | {row['launches']} | {' | '.join(_cell(c) for c in cells)} |")
    return lines


def _trace(found: dict[str, Any]) -> list[str]:
    fits = "" if found["fits"] else ", too many to keep"
    bounds = f"{found['energy_low_j']:.1f} to {found['energy_high_j']:.1f}"
    energy = f"{found['energy_j']:.1f} J ({bounds}), {found['replayed']:.1f} J replayed"
    return [f"Trace: {found['bytes']} bytes{fits}; {energy}."]


def _machine(found: dict[str, Any]) -> list[str]:
    load = found["load"] or "none (neither PyTorch nor CuPy sees the board), so idle only"
    return [
        f"# {found['board']}, driver {found['driver']}",
        "",
        f"Load: {load}. Kernel {found['kernel']}, {found['cpus']} CPUs.",
        *(["", "```", *found["nvidia-smi"], "```"] if found["nvidia-smi"] else []),
    ]


_WRITERS = {
    "machine": _machine,
    "against_nvidia_ml_py": _against,
    "sensors": _sensors,
    "fields": _fields,
    "launch_latency": _launches,
    "trace": _trace,
}


def _failure(what: str, found: dict[str, Any]) -> list[str]:
    return [f"{what} failed: {found['failed']}.", "", "```", *found.get("stderr", []), "```", ""]


def summary(report: dict[str, Any]) -> str:
    """The parts of the study; for a failed part, the reason."""
    lines: list[str] = []
    for part, found in report.items():
        seen = dict(found) if found else None
        under_load = seen.pop("with_load", None) if seen else None
        lines += _failure(part, seen) if seen and "failed" in seen else [*_WRITERS[part](seen), ""]
        if under_load is not None:
            lines += _failure(f"{part}, under load", under_load)
    return "\n".join(lines)
