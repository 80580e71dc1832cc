# SPDX-License-Identifier: Apache-2.0
"""The harness that measures the peers, without them: the table from its Arrow file, the adapters, the refusals."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import feather

from benchmarks.peers import namespace
from benchmarks.peers import table as sheet
from benchmarks.peers.cases import EVENTS, CaseError, _judged
from benchmarks.peers.environments import PROJECT, environment
from benchmarks.peers.picture import draw
from benchmarks.peers.table import BEGIN, END, ROWS, Figure, Sheet, merged, significant, splice, to_arrow
from benchmarks.peers.tools import BINDINGS, TOOLS
from benchmarks.peers.worker import CASES, MOST_WINDOWS, window_case
from benchmarks.peers.workers import cpu_s, memory_bytes

ADAPTERS = Path(namespace.__file__).with_name("adapters")
ROOT = PROJECT.parent


def figures(tool: str, cost_s: float, error_j: float, rate: float = 1000.0) -> list[Figure]:
    wraps = [
        Figure(tool, case, name, "J", value)
        for case in ("wrap", "late wrap")
        for name, value in (("error", error_j), ("truth", 60.0))
    ]
    rates = [Figure(tool, f"1 ms, {state}", "rate", "Hz", rate) for state in ("asleep", "busy")]
    return [Figure(tool, "window", "with its number", "s", cost_s), *wraps, *rates]


@pytest.fixture
def table() -> pa.Table:
    rows = figures("fastgreen", 2e-7, 0.01) + figures("careful", 8e-5, -0.2, 90.0) + figures("hasty", 2e-5, -262143.0)
    rows += [Figure("blind", "wrap", "why not", "", None, note="reads no CPU energy")]
    rows += [Figure("fastgreen", "import", "time", "s", 0.2), Figure("hasty", "import", "time", "s", 0.05)]
    return to_arrow(rows, {"careful": "1.2"}, {"on": "2026-01-01", "with": "Python 3.11"})


def test_the_arrow_file_comes_back_as_it_was(table, tmp_path):
    path = tmp_path / "peers.arrow"
    feather.write_feather(table, str(path), compression="uncompressed")
    again = feather.read_table(str(path))
    assert again.equals(table)
    assert Sheet(again).metadata == {"on": "2026-01-01", "with": "Python 3.11"}
    assert Sheet(again).markdown() == Sheet(table).markdown()


def test_the_ratio_is_taken_against_the_cheapest_peer_that_is_right_when_the_counter_wraps(table):
    sheet = Sheet(table)
    assert [tool for tool in sheet.tools if sheet.handles_wraps(tool)] == ["fastgreen", "careful"]
    name, ratio = sheet.window_ratio()
    assert name == "careful"
    assert ratio == pytest.approx(400)
    assert sheet.busy_ratio() == 1.0


def test_a_row_in_which_fastgreen_is_not_first_is_told(table):
    text = Sheet(table).markdown()
    assert "fastgreen is not first in:" in text
    assert "- import, ms: hasty (50.0; fastgreen 200)" in text
    assert "in every row" not in text


def test_a_tool_that_cannot_do_a_case_keeps_its_place_and_says_why(table):
    text = Sheet(table).markdown()
    row = next(line for line in text.splitlines() if line.startswith("| error when the counter wraps"))
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert cells[:3] == ["**0.0100**", "**-0.200**", "-262143"]
    assert cells[3].startswith("– <sup>")
    number = cells[3].partition("<sup>")[2].partition("<")[0]
    assert f"{number}. reads no CPU energy" in text.splitlines()


def test_one_tool_measured_again_replaces_its_rows_and_no_others(table):
    again = to_arrow(figures("careful", 5e-5, -0.1), {"careful": "1.3"}, {"on": "2026-01-02"})
    both = merged(table, again)
    sheet = Sheet(both)
    assert sheet.tools == Sheet(table).tools
    assert both.num_rows == table.num_rows
    assert sheet.value("careful", "window", "with its number") == 5e-5
    assert sheet.value("hasty", "window", "with its number") == 2e-5
    assert sheet.versions["careful"] == "1.3"
    assert sheet.metadata == {"on": "2026-01-02"}


def test_one_case_measured_again_keeps_the_other_cases_of_its_tool(table):
    again = to_arrow([Figure("careful", "overlap", "error", "J", 140.0)], {}, {})
    sheet = Sheet(merged(merged(table, again), again))
    assert sheet.value("careful", "overlap", "error") == 140.0
    assert sheet.value("careful", "window", "with its number") == Sheet(table).value(
        "careful", "window", "with its number"
    )


def test_every_row_has_a_cell_for_every_tool(table):
    lines = [line for line in Sheet(table).markdown().splitlines() if line.startswith("|")]
    assert len(lines) == len(ROWS) + 2
    assert {line.count("|") for line in lines} == {6}


def test_ties_are_first_together_and_a_slow_sampler_does_not_win_on_cpu():
    rows = [
        Figure("fastgreen", "1 ms, busy", "rate", "Hz", 990.0),
        Figure("other", "1 ms, busy", "rate", "Hz", 1000.0),
        Figure("fastgreen", "10 ms, asleep", "rate", "Hz", 100.0),
        Figure("fastgreen", "10 ms, asleep", "CPU", "1", 0.01),
        Figure("other", "10 ms, asleep", "rate", "Hz", 1.0),
        Figure("other", "10 ms, asleep", "CPU", "1", 0.001),
    ]
    sheet = Sheet(to_arrow(rows, {}, {}))
    by_name = {(row.case, row.figure): row for row in ROWS}
    assert sheet.first(by_name["1 ms, busy", "rate"]) == ["fastgreen", "other"]
    assert sheet.first(by_name["10 ms, asleep", "CPU"]) == ["fastgreen"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1234"), (12.345, "12.3"), (0.012345, "0.0123"), (-0.5, "-0.500"), (1e-9, "0")],
)
def test_numbers_are_written_without_an_exponent(value, text):
    assert significant(value, 3) == text


def test_the_document_is_changed_between_its_markers_only(tmp_path):
    path = tmp_path / "peers.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    splice(path, "new")
    assert path.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    path.write_text("no markers")
    with pytest.raises(ValueError, match=r"peers\.md has no "):
        splice(path, "new")


def test_the_document_has_its_markers():
    text = (ROOT / "docs" / "peers.md").read_text()
    assert text.index(BEGIN) < text.index(END)


def test_the_picture_is_drawn_from_what_there_is(table, tmp_path):
    pytest.importorskip("matplotlib")
    rows = [Figure("fastgreen", "fastest", "CPU per sample", "s", 5e-5)]
    more = pa.concat_tables([table, to_arrow(rows, {}, {}).replace_schema_metadata(table.schema.metadata)])
    draw(Sheet(more), tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 10_000
    one_case = more.filter(pa.compute.equal(more["case"], "fastest")).replace_schema_metadata(more.schema.metadata)
    draw(Sheet(one_case), tmp_path / "one-case.png")
    assert (tmp_path / "one-case.png").exists()


def test_every_tool_has_an_adapter_and_every_adapter_its_cases():
    assert {path.stem for path in ADAPTERS.glob("*.py")} == {tool.name for tool in TOOLS}
    for path in ADAPTERS.glob("*.py"):
        tree = ast.parse(path.read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        names = {t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets}
        assert {"windows", "measured"} <= functions, path.name
        assert "sampling" in functions or ("NO_SAMPLER" in names and "reader" in functions), path.name


def test_an_adapter_uses_only_public_names_of_its_tool():
    for path in ADAPTERS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_"), f"{path.name}: {node.attr}"
            if isinstance(node, ast.ImportFrom):
                assert not any(part.startswith("_") for part in (node.module or "").split(".")), path.name


def test_no_tool_is_left_out():
    peers = {"zeus", "codecarbon", "pyrapl", "pyjoules", "nvitop", "perun", "carbontracker", "eco2ai"}
    assert {tool.name for tool in TOOLS} == peers | {"fastgreen"}
    assert {tool.name for tool in BINDINGS} == {"nvidia-ml-py", "cuda-bindings"}


def test_a_finished_environment_is_not_made_again(tmp_path):
    commands = []

    def run(command: list[str]) -> None:
        commands.append(command)
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)
            (Path(command[-1]) / "bin" / "python").touch()

    first = environment(TOOLS[1], tmp_path, run)
    assert [command[2] for command in commands] == ["venv", "pip"]
    assert environment(TOOLS[1], tmp_path, run) == first
    assert len(commands) == 2


def test_the_environment_of_fastgreen_holds_its_dependencies_and_no_peer(tmp_path):
    commands = []

    def run(command: list[str]) -> None:
        commands.append(command)
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)

    environment(TOOLS[0], tmp_path, run)
    assert any(package.startswith("numpy") for package in commands[1])
    assert not any(package.startswith("fastgreen") for package in commands[1])


def test_the_refusal_is_one_sentence_and_tells_the_reason():
    assert namespace.refusal(0, "/usr/bin/unshare") is None
    for sentence in (
        namespace.refusal(1000, "/usr/bin/unshare"),
        namespace.refusal(0, None),
        namespace.refusal(0, "/usr/bin/unshare", "unshare failed: Operation not permitted"),
    ):
        assert sentence.startswith(namespace.REFUSAL)
        assert sentence.endswith("nothing was measured")
        assert "\n" not in sentence
    assert "user 1000" in namespace.refusal(1000, "/usr/bin/unshare")
    assert "Operation not permitted" in namespace.refusal(0, "unshare", "Operation not permitted")


def test_without_root_the_command_says_so_and_stops():
    if os.geteuid() != 0:
        command: list[str] = []
    elif Path("/usr/bin/setpriv").exists():
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    else:
        pytest.skip("this is root, and setpriv is not here to stop being it")
    done = subprocess.run(
        [*command, sys.executable, "-m", "benchmarks.peers"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    unreadable = ("Permission denied", "error while loading shared libraries")
    if any(said in done.stderr for said in unreadable) and not done.stderr.startswith(namespace.REFUSAL):
        pytest.skip("another user cannot read this tree or its interpreter")
    assert done.returncode == 2
    assert done.stderr.startswith(namespace.REFUSAL)
    assert "Traceback" not in done.stderr


def test_the_face_is_an_intel_processor_and_nothing_else_changes():
    text = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n"
    text += "flags\t\t: fpu hypervisor sse\n"
    face = namespace.intel_face(text)
    assert face.splitlines() == [
        "processor\t: 0",
        "vendor_id\t: GenuineIntel",
        "model\t\t: 106",
        "model name\t: Intel(R) Xeon(R) Platinum 8360Y CPU @ 2.40GHz",
        "flags\t\t: fpu sse",
    ]


def test_a_reported_energy_is_judged_by_what_the_tool_reports_of():
    tool = TOOLS[1]
    for said, part, truth in (({"cpu": 50.0, "gpu": 1.0}, "", 60.0), ({"total": 50.0}, "total", 120.0)):
        reported, true, error = _judged(tool, "wrap", said, 60.0)
        assert (reported.value, true.value, error.value) == (50.0, truth, 50.0 - truth)
        assert part in error.note
    with pytest.raises(CaseError, match="gives no number"):
        _judged(tool, "wrap", {"cpu": None}, 60.0)


def test_the_window_case_counts_every_window_and_what_comes_after():
    class Adapter:
        done = 0

        @classmethod
        def windows(cls, run):
            def loop(count):
                cls.done += count
                time.sleep(2e-4)

            run(loop)
            time.sleep(0.05)

    said: dict = {}
    window_case(Adapter, said.update, {})
    assert said["windows"] + 1 == Adapter.done
    assert said["windows"] <= 2 * MOST_WINDOWS
    assert len(said["blocks_s"]) >= 3
    assert said["after_s"] >= 0.05
    assert said["first_s"] >= 0.05


def test_requests_and_ranks_work_until_the_same_moment():
    class Adapter:
        @staticmethod
        def overlapping(function, count):
            function()
            return [1.0] * count

        @staticmethod
        def measured(function):
            function()
            return {"cpu": 2.0}

    class Merging(Adapter):
        @staticmethod
        def rank(function, folder):
            function()

        @staticmethod
        def job(folder, begin_ns, end_ns):
            return (end_ns - begin_ns) * 1e-9

    options = {"end_ns": time.monotonic_ns() + 50_000_000, "count": 3, "folder": "job"}
    said: dict = {}
    for case, adapter, energies in (
        ("overlap", Adapter, {"energies_j": [1.0, 1.0, 1.0]}),
        ("rank", Adapter, {"energy_j": {"cpu": 2.0}}),
        ("rank", Merging, {"energy_j": None}),
    ):
        said.clear()
        CASES[case](adapter, said.update, options)
        assert said.pop("begin_ns") <= said["end_ns"]
        assert said.pop("end_ns") >= options["end_ns"]
        assert said == energies
    CASES["job"](Merging, said.update, {"folder": "job", "begin_ns": 0, "end_ns": 5 * 10**9})
    assert said == {"energy_j": 5.0}


def test_a_page_is_timed_without_the_run_that_it_shows():
    class Adapter:
        @staticmethod
        def page(windows):
            time.sleep(0.05)
            return lambda: 1000 * windows

    said: dict = {}
    CASES["page"](Adapter, said.update, {"windows": 7})
    assert said["bytes"] == 7000
    assert min(said["pages_s"]) < 0.05


def test_cpu_and_memory_are_those_of_the_process_and_its_children():
    spin = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with subprocess.Popen([sys.executable, "-c", spin]) as process:
        try:
            end = time.monotonic() + 60
            own_s = lambda: time.clock_gettime((~process.pid << 3) | 2)  # noqa: E731
            while cpu_s(process.pid) < own_s() + 0.3 and time.monotonic() < end:
                time.sleep(0.05)
            assert cpu_s(process.pid) >= own_s() + 0.3
            assert memory_bytes(process.pid) > 1 << 20
        finally:
            import psutil

            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()


def test_the_events_end_on_either_side_of_what_happens():
    ends = {event.case: event.end_s for event in EVENTS}
    assert ends["burst outside"] < 0 < ends["burst inside"]
    assert {event.case for event in EVENTS if event.wraps} == {"wrap", "late wrap"}


def test_a_rate_above_the_one_asked_for_is_not_better():
    rows = [
        {"tool": tool, "case": "10 ms, asleep", "figure": "rate", "value": rate, "note": None, "version": ""}
        for tool, rate in (("slow", 60.0), ("right", 100.0), ("hasty", 180.0))
    ]
    row = next(row for row in sheet.ROWS if row.figure == "rate" and row.case == "10 ms, asleep")
    assert sheet.Sheet(pa.Table.from_pylist(rows)).first(row) == ["right", "hasty"]
