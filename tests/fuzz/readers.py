# SPDX-License-Identifier: Apache-2.0
"""Targets for files that a user names: sweeps, recordings of other tools, tables of models and of training runs."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
from click.testing import CliRunner

import fastgreen as fg
from fastgreen.cli import main
from fastgreen.costs.hourly import read_hourly
from fastgreen.costs.rate import CARBON, PRICE
from fastgreen.errors import TraceError
from fastgreen.recordings.comparison import compare
from fastgreen.recordings.readers import FORMATS, read
from fastgreen.table_files import load_table, save_table
from tests.fuzz.guard import HERE, Take, fresh
from tests.fuzz.spoil import spoilt_bytes, spoilt_json, spoilt_rows, spoilt_table


def run(*words: object) -> str:
    """What a command prints; it ends with an exit code, and prints nothing that a terminal obeys."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (0, 1, 2), done.exit_code
    assert all(c.isprintable() or c in "\n\t" or c.isspace() for c in done.output), ascii(done.output)[:2000]
    assert "\x1b" not in done.output
    assert "\r" not in done.output
    return done.output


# ---- sweeps ----


@functools.cache
def _sweeps() -> list[tuple[bytes, pa.Table]]:
    axes = {"consumption": np.linspace(0.1, 2, 4), "accuracy": np.linspace(0, 1, 3), "alpha": [0.1, 0.5]}
    runs = {"time": [[1.0, 2, 3], [1.0, 2]], "accuracy": [[0.1, 0.5, 0.9], [0.2, 0.8]]}
    runs["consumption"] = [[1.0, 2, 3], [2.0, 4]]
    runs = {name: pa.array(lists) for name, lists in runs.items()}
    times = fg.Sweep("ttcapc", **runs, target=[None, 0.5, (0.9, 2.5)])
    out, folder = [], fresh("sweeps")
    options = [{}, {"layout": "long"}, {"dtype": "float32"}, {"compression": "zstd"}]
    for sweep in (fg.Sweep("apc", **axes), times):
        for number, more in enumerate(options):
            path = folder / f"{sweep.metric}{number}.arrow"
            sweep.write(path, **more)
            out.append((path.read_bytes(), pa.ipc.open_file(path).read_all()))
    return out


def sweep(take: Take) -> None:
    """Any file as a sweep: an error of the package, or a sweep whose points can be read."""
    content, table = _sweeps()[take.number(len(_sweeps()))]
    path = HERE / "sweep.arrow"
    if take.number(4):
        with pa.OSFile(str(path), "wb") as sink:
            changed = spoilt_table(table, take)
            with pa.ipc.new_file(sink, changed.schema) as writer:
                writer.write_table(changed)
    else:
        path.write_bytes(spoilt_bytes(content, take))
    stored = fg.open_sweep(path)
    assert repr(stored)
    assert stored.nbytes >= 0
    points = sum(values.size for _, values in stored.tiles())
    assert points == stored.size, (points, stored.shape)
    assert stored.to_numpy().shape == stored.shape
    assert stored.read(0, min(3, stored.size)).size == min(3, stored.size)


# ---- recordings of other tools ----

_POWER = '{"date": "2024-01-01 00:00:0%d.000000", "metrics": %s}\n'
_CPU = '{"cpu": {"intel_power": %d.5, "total_dram_power": 5.0, "per_process_mem_use_abs": {"7": 1e9}}, "gpu": %s}'
_GPU = '{"nvidia_draw_absolute": 90.0, "per_gpu_power_draw": {"0": 60.0, "1": 30.0, "all": 90.0}}'
_LINES = [_POWER % (i, _CPU % (50 + i, _GPU)) for i in range(5)]
_SMI = "timestamp, index, power.draw [W], utilization.gpu [%], memory.used [MiB]\n"
_SMI += "".join(f"2023/05/01 10:00:0{i}.5, {g}, {100.0 + g} W, 10 %, 1024 MiB\n" for i in range(4) for g in (0, 1))
_CARBON = "timestamp,run_id,duration,cpu_energy,gpu_energy,ram_energy,energy_consumed\n"
_CARBON += "2022-12-25T01:12:03,a,87.8,0.0007,0.0067,0.0018,0.0093\n2022-12-25T02:12:03,b,10,0.1,,0.1,0.2\n"
_WALL = "#timestamp,#frame_is_ok,#activepow1,#activepow2\n"
_WALL += "".join(f"170411040{i}.0{i},True,{100 + i},5\n" for i in range(5))
_DMON = "#Date       Time        gpu    pwr\n#YYYYMMDD   HH:MM:SS    Idx      W\n"
_DMON += "".join(f" 20261120   10:00:{i}0      {g}    100\n" for i in range(5) for g in (0, 1))
_ROCM = "device,Average Graphics Package Power (W),GPU use (%)\ncard0,300.0,99\ncard1,280.0,98\n\n" * 4
_PLUG = "timestamp;plug_power_W\n" + "".join(f"2026-11-20T10:00:{i}0+01:00;81,{i}\n" for i in range(5))
_RECORDINGS = {"codecarbon": _CARBON, "nvidia-smi": _SMI, "omegawatt": _WALL}
_RECORDINGS |= {"nvidia-smi-dmon": _DMON, "rocm-smi": _ROCM, "table": _PLUG}
_TEGRA = "".join(
    f"11-20-2026 10:00:0{i} RAM 2/7MB CPU [1%@7] VDD_IN 490{i}mW/4905mW VDD_SOC 9mW/9mW\n" for i in range(5)
)
_PERF = "".join(f"{i}.001,{40 + i}.25,Joules,power/energy-pkg/,1000000000,100.00,,\n" for i in range(1, 6))
_TURBO = "Core\tCPU\tPkgWatt\tTime_Of_Day_Seconds\n"
_TURBO += "".join(f"-\t-\t4{i}.00\t176363640{i}.000\n0\t0\t4{i}.00\t176363640{i}.000\n" for i in range(5))
_RECORDINGS |= {"tegrastats": _TEGRA, "perf": _PERF, "turbostat": _TURBO}
_AMD = "timestamp,gpu,socket_power\n" + "".join(f"176363640{i},{g},10{i}\n" for i in range(5) for g in (0, 1))
_ZEUS = "start_time,window_name,elapsed_time,gpu0_energy\n"
_ZEUS += "".join(f"176363640{i}.0,step,1.0,5{i}.0\n" for i in range(5)) + "1763636400.0,epoch,5.5,260.0\n"
_HOME = "entity_id,state,last_changed\n"
_HOME += "".join(f"sensor.plug_power,8{i},2026-11-20T10:0{i}:00.000Z\n" for i in range(5))
_INFLUX = "#datatype,string,long,dateTime:RFC3339,double,string\n,result,table,_time,_value,_field\n"
_INFLUX += "".join(f",,0,2026-11-20T10:0{i}:00Z,8{i},power\n" for i in range(5))
_EPOCH = (
    "2026-11-20 10:0%d:00 - Duration: 0:00:50.00\n2026-11-20 10:0%d:00 - Average power usage (W) for gpu: [9%d.0]\n"
)
_RECORDINGS |= {"amd-smi": _AMD, "zeus": _ZEUS, "home-assistant": _HOME, "influxdb": _INFLUX}
_RECORDINGS |= {"carbontracker": "".join(_EPOCH % (i, i, i) for i in range(5))}
_PTD = "".join(
    f"Time,11-20-2026 10:00:0{i}.250,Watts,9{i}.0,Volts,230.0,Amps,0.2,PF,0.5,Mark,run,Ch1,Watts,4{i}.0\n"
    for i in range(5)
)
_PERUN = ",run id,hostname,device_group,sensor,unit,magnitude,timestep,value\n"
_PERUN += "".join(f"{i},0,node,gpu,CUDA:0_POWER,W,0.001,{i}.0,9{i}000\n" for i in range(5))
_PERUN += "".join(f"{i + 5},1,node,cpu,cpu_0_package-0,J,1e-06,{i}.0,9{i}000000\n" for i in range(5))
_RECORDINGS |= {"ptdaemon": _PTD, "perun": _PERUN}
_OPTIONS = {"omegawatt": {}, "rocm-smi": {"period_s": 1.0}, "table": {"time": "timestamp", "power": "plug_power_W"}}
_WITHOUT_COMMAS = ("nvidia-smi-dmon", "table", "tegrastats", "turbostat", "carbontracker")
_ZONES = ("UTC", "Europe/Paris", "America/St_Johns", "", "../x", "\x00", "Asia")
_BESIDE = {"latency.csv": "0.5\n0.25\n", "latency.json": "[0.5, 0.25]", "model_summary.json": '{"layers": [1]}'}
_BESIDE |= {"results_exp.json": '{"a": 1}\n{"b": 2}\n'}


def _published(take: Take) -> Path:
    """A folder of AIPowerMeter."""
    folder = fresh("published")
    lines = list(_LINES)
    if take.number(4):
        for _ in range(1 + take.number(3)):
            at, how = take.number(len(lines)), take.number(6)
            if how < 4:
                lines[at] = spoilt_json(_LINES[take.number(len(_LINES))], take) + "\n"
            else:
                lines[at : at + (how == 4)] = ['"END OF RECORDING SEGMENT"\n']
        content = "".join(lines * (1 + 5 * take.number(2))).encode("utf-8", "surrogatepass")
    else:
        content = spoilt_bytes("".join(lines).encode(), take)
    (folder / "power_metrics.json").write_bytes(content)
    for name, text in _BESIDE.items():
        how = take.number(4)
        if how and name.endswith("n") and "\n" not in text:
            text = spoilt_json(text, take)
        elif how:
            text = spoilt_bytes(text.encode(), take).decode("utf-8", "surrogateescape")
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    return folder


def recording(take: Take) -> None:
    """Any bytes as the file of another tool: an error of the package, or a recording that becomes a result."""
    which = take.number(1 + len(_RECORDINGS))
    if which == len(_RECORDINGS):
        path, known = _published(take), "aipowermeter"
    else:
        known = sorted(_RECORDINGS)[which]
        path = HERE / "recording.csv"
        text = _RECORDINGS[known]
        spoil = take.number(4) > 0 and known not in _WITHOUT_COMMAS
        content = spoilt_rows(text, take).encode("utf-8", "surrogatepass") if spoil else text.encode()
        if not spoil or take.number(4) == 0:
            content = (b"", b"\xff\xfe", b"\xef\xbb\xbf")[take.number(3)] + spoilt_bytes(content, take)
        path.write_bytes(content)
    form = None if take.number(8) else sorted(FORMATS)[take.number(len(FORMATS))]
    zone = _ZONES[take.number(len(_ZONES))] if take.number(4) == 0 else "UTC"
    if take.number(8) == 0:
        run("import", path, "--timezone", zone, "-o", HERE / "out" / "run", *(["--format", form] if form else []))
        return
    options = _OPTIONS.get(form or known, {"timezone": zone})
    found = read(path, form or (None if take.number(2) else known), **options)
    assert 0 <= found.total_j < np.inf, found
    assert 0 <= found.duration_s < np.inf
    for row in found.channels.to_pylist():
        if row["energy_j"] is not None:
            assert 0 <= row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"] < np.inf, row
            found.power(row["id"])
    result = found.to_result()
    assert 0 <= result.energy_low_j <= result.energy_j <= result.energy_high_j < np.inf
    result.summary()
    if found.energy_j():
        compare(found, found)


# ---- tables ----

_MODELS = "model,accuracy,consumption,cost,run,time\na,0.9,1.5,0.2,1,1\nb,0.8,0.5,0.1,1,2\nc,0.7,0.25,0.05,2,1\n"
_TRAINED = "architecture,environment,energy (MJ),images,f1-score,run,energy_j,accuracy\n"
_TRAINED += "".join(f"{a},{e},{0.1 * r + 1},100,0.{8 + r % 2},{r},{r}.5,0.{r + 1}\n"
                    for a in "ab" for e in ("cloud", "edge") for r in range(3))  # fmt: skip
_COMMANDS = (("metrics",), ("metrics", "--price", "0.1"), ("tradeoff",), ("tradeoff", "--by", "architecture"))
_COMMANDS += (("sweep", "ttcapc", "--best", "2", "--runs"), ("tradeoff", "--repeats", "2", "--json"))


def table(take: Take) -> None:
    """Any file as a table: an error of the package, or a table that the commands use or refuse."""
    text = (_MODELS, _TRAINED)[take.number(2)]
    path = HERE / f"table.{('csv', 'tsv', 'arrow', 'parquet')[take.number(4)]}"
    how = take.number(8)
    if how < 3:
        path.write_bytes(spoilt_rows(text, take).encode("utf-8", "surrogatepass"))
    elif how == 3:
        path.write_bytes(spoilt_bytes(text.encode(), take))
    else:
        (HERE / "sound.csv").write_text(text)
        sound = load_table(HERE / "sound.csv")
        changed = spoilt_table(sound, take) if how < 7 else sound
        try:
            save_table(changed, path)
        except (pa.ArrowException, ValueError, OSError):
            return  # no such file can be written
        if how == 7:
            path.write_bytes(spoilt_bytes(path.read_bytes(), take))
    run(*_COMMANDS[take.number(len(_COMMANDS))], path)
    load_table(path)


# ---- prices and carbon intensities ----

_HOURLY = [
    b"Datetime (UTC),Zone id,Carbon intensity gCO2eq/kWh (direct),Carbon intensity gCO2eq/kWh (Life cycle)\n"
    b"2025-03-01 00:00:00,DE,210.5,262.1\n2025-03-01 01:00:00,DE,220.5,272.1\n2025-03-01 03:00:00,DE,1,2\n",
    b"MTU (CET/CEST),Area,Day-ahead Price (EUR/MWh),Currency\n"
    b"26/10/2025 02:00:00 (CEST) - 26/10/2025 02:00:00 (CET),FR,20,EUR\n"
    b"26.10.2025 03:00 - 26.10.2025 04:00,FR,-3,EUR\n",
    b"start;price\n2025-07-01T00:00:00+02:00;0,25\n2025-07-01T00:15:00+02:00;0,26\n",
]


def hourly(take: Take) -> None:
    """A file of rates: sorted periods without overlap, and a finite value wherever a time is covered."""
    path = fresh("hourly") / "grid.csv"
    path.write_bytes(spoilt_bytes(_HOURLY[take.number(3)], take))
    for quantity in (CARBON, PRICE):
        try:
            rate = read_hourly(path, quantity)
        except TraceError:
            continue
        assert np.all(rate.begins_s < rate.ends_s)
        assert np.all(rate.ends_s[:-1] <= rate.begins_s[1:])
        for begin_s, value in zip(rate.begins_s.tolist(), rate.values.tolist(), strict=True):
            assert rate.at(begin_s) == value
