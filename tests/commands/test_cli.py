"""The command line: listings and reports for people and programs, and `run` as a transparent wrapper."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import fastgreen as fg
from fastgreen.cli import COMMANDS, main
from tests.fakes.permissions import drop_dac_override
from tests.fakes.powercap import Zone
from tests.oracles.places import ROOT


def cli(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "fastgreen", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run(command, env=env, **{"capture_output": True, "text": True, "timeout": 120, **options})


def python_child(code: str) -> list[str]:
    return ["--", sys.executable, "-c", code]


@pytest.fixture
def tree(powercap):
    return powercap(Zone("package-0", 60.0, children=(Zone("dram", 6.0),)), move=True)


@pytest.mark.parametrize("arguments", [[], ["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_there_for_every_command(arguments):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code in (0, 2)
    assert "Usage" in done.output


def test_channels_lists_what_is_there_and_the_command_that_mends_what_cannot_be_read(powercap):
    tree = powercap(Zone("package-0", children=(Zone("core"),)), Zone("package-1", counter_start_uj=5))
    tree.break_file("package-1", "unreadable")
    done = cli("channels", preexec_fn=drop_dac_override)
    assert done.returncode == 0
    for word in ("rapl:package-0", "rapl:package-0/core", "262.1 kJ", "NO", "procstat:cpu"):
        assert word in done.stdout
    assert f"sudo chmod a+r {os.path.realpath(tree['package-1'].energy)}\n" in done.stdout
    assert "nvml: nothing found" in done.stdout


def test_channels_as_json_is_all_that_is_known(powercap):
    powercap()
    found = json.loads(cli("channels", "--json").stdout)
    by_id = {channel["id"]: channel for channel in found["channels"]}
    assert by_id["rapl:package-0"]["readable"] is True
    assert by_id["procstat:cpu"]["estimated"] is True
    assert {state["source"] for state in found["sources"]} >= {"rapl", "nvml", "hwmon", "procstat"}


@pytest.fixture
def drawn(tree, soon):
    """Waits until a counter has gone on by so many joules."""

    def wait(joules: float = 0.0) -> None:
        begun_uj = tree.read_uj("package-0")
        soon(lambda: tree.read_uj("package-0") > begun_uj + joules * 1e6)

    return wait


DRAWS_6_J = """
import sys, time
def uj():
    with open(sys.argv[1]) as file:
        return int(file.read())
begun, until = uj(), time.monotonic() + 60
while uj() < begun + 6_000_000 and time.monotonic() < until:
    time.sleep(0.2)
print('out'); print('err', file=sys.stderr); sys.exit(7)
"""


def test_run_measures_passes_output_through_and_returns_the_childs_code(tree):
    done = cli("run", "--json", *python_child(DRAWS_6_J), tree["package-0"].energy)
    assert done.returncode == 7
    assert done.stdout == "out\n"
    first, report = done.stderr.split("\n", 1)
    assert first == "err"
    report = json.loads(report)
    assert report["energy_j"] > 5.0
    assert report["duration_s"] > 0.2
    assert "Traceback" not in done.stderr


def test_run_reports_to_people_on_stderr_and_marks_an_estimate():
    done = cli("run", "--", "true")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "estimated" in done.stderr
    assert "procstat:cpu" in done.stderr


def test_a_command_that_is_not_found_or_not_executable_is_said_with_the_shells_code(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("echo hello\n")
    no_format = tmp_path / "no-format"
    no_format.write_bytes(b"\x01\x02\x03")
    no_format.chmod(0o755)
    for command, code in (("no-such-command-at-all", 127), (plain, 126), (tmp_path, 126), (no_format, 126)):
        done = cli("run", "--", command)
        assert done.returncode == code, done.stderr
        assert f"fastgreen run: {command}: " in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_child_that_is_killed_gives_the_shells_code_and_a_report(tree, number):
    done = cli("run", "--json", *python_child(f"import os; os.kill(os.getpid(), {int(number)})"))
    assert done.returncode == 128 + number
    assert json.loads(done.stderr)["energy_j"] >= 0


def started(*arguments: object, **options: object) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fastgreen", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=env, text=True, start_new_session=True, **pipes, **options)


SAYS_AND_WAITS = """
import signal, sys, time
def said(*_):
    print("interrupted", flush=True)
    sys.exit(5)
signal.signal(signal.SIGINT, {})
print("ready", flush=True)
time.sleep({})
print("slept", flush=True)
"""


def test_an_interrupt_of_the_group_reaches_the_child_whose_code_comes_back_with_the_report(drawn):
    process = started("run", "--json", *python_child(SAYS_AND_WAITS.format("said", 60)))
    assert process.stdout.readline() == "ready\n"
    drawn()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (out, process.returncode) == ("interrupted\n", 5)
    assert json.loads(err)["energy_j"] > 0


def test_a_child_that_ignores_interrupts_is_waited_for(tree):
    process = started("run", "--json", *python_child(SAYS_AND_WAITS.format("signal.SIG_IGN", 0.6)))
    assert process.stdout.readline() == "ready\n"
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    out, err = process.communicate(timeout=120)
    assert (out, process.returncode) == ("slept\n", 0)
    assert json.loads(err)["duration_s"] > 0.5


def test_a_termination_is_passed_on(drawn):
    process = started("run", "--json", *python_child(SAYS_AND_WAITS.format("said", 60)))
    assert process.stdout.readline() == "ready\n"
    drawn()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert json.loads(err)["energy_j"] > 0


def test_a_ctrl_c_at_a_terminal_reaches_the_child(tree):
    pid, terminal = pty.fork()
    if pid == 0:
        command = ["-m", "fastgreen", "run", "--json", *python_child(SAYS_AND_WAITS.format("said", 60))]
        os.execve(sys.executable, [sys.executable, *command], {**os.environ, "PYTHONPATH": str(ROOT)})
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    try:
        while chunk := os.read(terminal, 4096):
            seen += chunk
    except OSError:  # the terminal's other side is closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert b"interrupted" in seen
    assert b'"energy_j"' in seen


def test_a_gigabyte_of_output_passes_through_in_constant_memory(tree):
    child = "import os\nblock = bytes(1 << 20)\nfor _ in range(1024): os.write(1, block)"
    wrapper = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=open('/dev/null', 'wb'))\n"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fastgreen", "run", *python_child(child)]
    done = subprocess.run([sys.executable, "-c", wrapper, *command], env=env, capture_output=True, text=True)
    code, peak_kb = map(int, done.stdout.split())
    assert code == 0
    assert peak_kb < 300 * 1024
    counted = f"{' '.join(map(str, [sys.executable, '-m', 'fastgreen', 'run']))} -- head -c 200000000 /dev/zero | wc -c"
    done = subprocess.run(["bash", "-c", counted], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "200000000"


def test_run_records_and_report_shows_it_again(tree, tmp_path):
    run = tmp_path / "run"
    first = cli("run", "--json", "-o", run, "--hz", 500, "--", "sleep", "0.6")
    assert first.returncode == 0, first.stderr
    again = cli("report", "--json", run)
    assert json.loads(again.stdout) == json.loads(first.stderr)
    people = cli("report", run)
    assert "rapl:package-0/dram" in people.stdout
    assert people.returncode == 0
    refused = cli("run", "-o", run, "--", "true")
    assert refused.returncode == 1
    assert "holds a run already" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert fg.load(run).energy_j == json.loads(first.stderr)["energy_j"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--hz", "0", "--", "true"], "hz"),
        (["run", "--hz", "nan", "--", "true"], "hz"),
        (["run", "--hz", "x", "--", "true"], "hz"),
        (["run", "-c", "rapl:pakage-0", "--", "true"], "Did you mean 'rapl:package-0'"),
        (["run"], "Missing argument"),
        (["report", "/nowhere/at/all"], "is not a folder"),
        (["report", str(Path(__file__).parent)], "missing"),
        (["rum"], "rum"),
    ],
)
def test_a_mistake_is_one_clear_sentence(tree, arguments, words):
    done = cli(*arguments)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_options_after_the_command_are_the_commands(tree):
    done = cli("run", sys.executable, "-c", "import sys; print(sys.argv[1:])", "--hz", "5", "-h")
    assert done.stdout == "['--hz', '5', '-h']\n"


def test_report_without_json_survives_a_closed_pipe(tree, tmp_path):
    cli("run", "-o", tmp_path / "run", "--", "true")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = f"{sys.executable} -m fastgreen report --json {tmp_path / 'run'} | true"
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_the_version_is_told_from_a_tree_too():
    assert cli("--version").stdout.split()[-1] == fg.__version__


def test_tables_keep_to_the_columns_that_were_asked_for(tree):
    table = cli("channels", env={"COLUMNS": "80"}).stdout.split("rapl:", 1)[0]
    assert max(map(len, table.splitlines())) <= 80
    assert max(map(len, cli("channels", env={"COLUMNS": "100"}).stdout.splitlines()[:2])) == 100


def test_measure_refuses_what_is_no_function():
    with pytest.raises(TypeError, match="not 3"):
        fg.measure(3)
