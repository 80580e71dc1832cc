"""What all commands share: exit codes, suggestions, JSON, channels, ranges and callables, each held for every one."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fastgreen.cli import COMMANDS, main
from fastgreen.commands import common
from fastgreen.commands.ranges import Range
from tests.fakes.powercap import Zone

COMMAND = {name: main.get_command(None, name) for name in COMMANDS}
TYPED = (click.types.IntParamType, click.types.FloatParamType, click.Choice, Range)
OPTIONS = [(name, option) for name, command in COMMAND.items() for option in command.params
           if isinstance(option, click.Option)]  # fmt: skip


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words], env={"COLUMNS": "200"})


def said(done, code):
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    assert "Error: " in done.output
    return " ".join(done.output.split())


# ---- exit codes: 2, asked wrongly; 1, could not be done


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_2(name):
    assert "No such option" in said(call(name, "--no-such-option"), 2)


@pytest.mark.parametrize("name", [n for n, c in COMMAND.items() if any(p.required for p in c.params)])
def test_a_missing_argument_is_2(name):
    assert "Missing" in said(call(name), 2)


@pytest.mark.parametrize(
    ("name", "option"),
    [(n, o) for n, o in OPTIONS
     if not o.is_flag and isinstance(o.type, TYPED)
     ],
    ids=lambda value: getattr(value, "name", value),
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_2_for_every_typed_option(name, option):
    assert max(option.opts, key=len) in said(call(name, max(option.opts, key=len), "nonsense", *ARGUMENTS[name]), 2)


# Enough of an argument for the options to be looked at.
ARGUMENTS: dict[str, list[str]] = {name: [] for name in COMMANDS}
ARGUMENTS |= {"run": ["true"], "sweep": ["apc"], "bench": ["alexnet", "-o", "s"], "estimate": ["alexnet"]}
ARGUMENTS |= {"figures": ["-o", "s"]} | {name: ["x"] for name in ("report", "compile", "import", "tradeoff")}
ARGUMENTS |= {name: [__file__] for name in ("plot", "metrics", "collect")}
ARGUMENTS |= {name: ["."] for name in ("fit", "ablation")}

WRONG = {
    "channels": ["extra"],
    "calibrate": ["--seconds", "0"],
    "compare": ["--repeats", "0", "true", "true"],
    "run": ["--hz", "nan", "--", "true"],
    "report": ["x", "--step", "0.1"],
    "merge": [],
    "share": ["x"],
    "watch": ["--hz", "-1"],
    "export": ["--listen", "nowhere"],
    "grant": ["--user", "no-such-user-here"],
    "sweep": ["apc", "--consumption", "1", "--accuracy", "50", "--best", "1"],
    "plot": [],
    "figures": ["-o", "s", "--only", "apc-gird"],
    "metrics": ["models.csv", "--alpha", "nan"],
    "demo": ["--batch", "0"],
    "estimate": ["resnet1000"],
    "collect": ["plan.toml", "-c", ""],
    "fit": ["folder", "-c", "a,b"],
    "ablation": ["folder", "--degree", "3"],
    "bench": ["alexnot", "--sizes", "1", "-o", "s"],
    "compile": [],
    "import": ["file", "--shift", "x"],
    "tradeoff": ["models.csv"],
}
IMPOSSIBLE = {
    "channels": ["--json-file", "nowhere/x.json"],
    "calibrate": ["-c", "gpu"],
    "compare": ["nowhere-a.json", "nowhere-b.json"],
    "run": ["-c", "gpu", "--", "true"],
    "report": ["nowhere"],
    "merge": ["nowhere"],
    "share": ["nowhere", "--spans", __file__],
    "watch": ["-c", "gpu"],
    "export": ["-c", "gpu"],
    "grant": ["--user", "0", "--socket", "file/sock"],
    "sweep": ["apc", "--consumption", "1", "--accuracy", "0.5", "-o", "nowhere/x"],
    "plot": ["file"],
    "figures": ["-o", "file"],
    "metrics": ["file"],
    "demo": ["-o", "file"],
    "estimate": ["nowhere.onnx"],
    "collect": ["file"],
    "fit": ["folder"],
    "ablation": ["folder"],
    "bench": ["nowhere.py:build", "--sizes", "1", "-o", "s"],
    "compile": ["nowhere"],
    "import": ["nowhere"],
    "tradeoff": ["nowhere"],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUDO_UID", raising=False)
    Path("file").write_text("x,y\n1,2\n")
    Path("models.csv").write_text("model,accuracy,consumption\na,0.9,1\n")
    Path("plan.toml").write_text("")
    Path("folder").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_asked_wrongly_is_2(here, name):
    said(call(name, *WRONG[name]), 2)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_could_not_be_done_is_1(here, name):
    said(call(name, *IMPOSSIBLE[name]), 1)


@pytest.mark.parametrize("option", [["--alpha", "-1"], ["--beta", "-1"], ["--cost-beta", "-1"], ["--price", "-1"]])
def test_a_weight_out_of_its_domain_is_2_whatever_the_table(here, option):
    said(call("metrics", "models.csv", *option), 2)


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError("x"), 2), (OverflowError("x"), 2), (OSError(2, "x"), 1), (ImportError("x"), 1), (MemoryError(), 1),
     (UnicodeDecodeError("utf-8", b"", 0, 1, "x"), 1), (common.FastgreenError("x"), 1)],
)  # fmt: skip
def test_each_kind_of_error_has_one_code(error, code):
    with pytest.raises(click.ClickException) as caught, common.errors_as_sentences():
        raise error
    assert caught.value.exit_code == code
    assert caught.value.message


def test_a_bug_keeps_its_traceback():
    with pytest.raises(KeyError), common.errors_as_sentences():
        raise KeyError("bug")


# ---- suggestions


@pytest.mark.parametrize("name", COMMANDS)
def test_a_slip_in_the_name_of_a_command_is_answered_with_it(name):
    assert f"Did you mean {name!r}?" in said(call(name[:-1] + "_"), 2)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_slip_in_an_option_is_answered_with_it(name):
    option = next(o for n, o in OPTIONS if n == name and not o.hidden and o.name != "help")
    word = max(option.opts, key=len)
    assert word in said(call(name, word + "z"), 2)


# ---- channels


def test_every_command_that_takes_channels_takes_them_alike():
    takers = {name for name, option in OPTIONS if "--channel" in option.opts}
    assert takers == {"calibrate", "compare", "export", "run", "share", "watch", "collect", "fit", "ablation", "bench"}
    for name, option in OPTIONS:
        if "--channel" in option.opts:
            assert option.opts == ["-c", "--channel"], name
            assert option.callback is common.split_channels


@pytest.mark.parametrize(
    ("given", "names"),
    [([], None), (["a"], ["a"]), (["a,b", "c"], ["a", "b", "c"]), (["a, b"], ["a", "b"]),
     (["replay:/x,y"], ["replay:/x,y"])],
)  # fmt: skip
def test_channels_are_repeated_or_have_commas_between(given, names):
    assert common.split_channels(None, None, tuple(given)) == names


def test_channels_with_commas_are_measured(powercap):
    powercap(Zone("package-0", children=(Zone("dram"),)), move=True)
    done = call("watch", "-c", "cpu,dram", "--every", "0.1", "--seconds", "0.1", "--json")
    assert set(json.loads(done.stdout)["channels"]) == {"rapl:package-0", "rapl:package-0/dram"}


# ---- JSON


def test_every_command_with_json_also_writes_it_to_a_file():
    flags = {name for name, option in OPTIONS if "--json" in option.opts}
    assert flags == {name for name, option in OPTIONS if "--json-file" in option.opts}
    assert set(COMMANDS) - flags == {"export", "grant", "plot", "figures", "collect", "bench"}


def test_json_goes_to_the_file_and_people_still_get_their_table(here):
    done = call("metrics", "models.csv", "--json-file", "out.json")
    assert done.exit_code == 0, done.output
    assert "accuracy" in done.output
    printed = call("metrics", "models.csv", "--json", "--json-file", "both.json")
    assert Path("out.json").read_text() == Path("both.json").read_text() == printed.output
    assert call("metrics", "models.csv", "--json").output == printed.output


def test_watch_writes_a_line_for_each_glance(here, powercap):
    powercap(move=True)
    done = call("watch", "--every", "0.1", "--seconds", "0.3", "--json-file", "out.jsonl")
    assert done.exit_code == 0, done.output
    assert len([json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]) >= 3
    assert "channels" in done.output


def test_a_run_writes_its_report_to_the_file(here, powercap):
    powercap(move=True)
    done = call("run", "--json-file", "out.json", "--", "true")
    assert done.exit_code == 0, done.output
    assert json.loads(Path("out.json").read_text())["duration_s"] > 0


# ---- ranges: one rule for the end


def slow_range(start: str, stop: str, step: str) -> list[Decimal]:
    """By counting up in decimals, which are exact."""
    value, out = Decimal(start), []
    while value <= Decimal(stop):
        out.append(value)
        value += Decimal(step)
    return out


decimals = st.decimals(-50, 50, places=2).map(str)


@given(decimals, st.decimals(0, 20, places=2), st.decimals("0.01", 5, places=2).map(str))
def test_a_range_has_the_numbers_that_counting_finds(start, length, step):
    stop = str(Decimal(start) + length)
    slow = slow_range(start, stop, step)
    fast = Range().convert(f"{start}:{stop}:{step}", None, None)
    assert len(fast) == len(slow)
    assert np.allclose(fast, [float(value) for value in slow], rtol=1e-12, atol=1e-12)
    assert fast[-1] <= float(stop)


@given(st.integers(-50, 50), st.integers(0, 99), st.integers(1, 9))
def test_a_whole_range_is_the_same_in_both_types_and_counts_down_too(start, length, step):
    stop = start + length
    whole = Range(whole=True).convert(f"{start}:{stop}:{step}", None, None).tolist()
    assert whole == list(range(start, stop + 1, step)) == Range().convert(f"{start}:{stop}:{step}", None, None).tolist()
    down = Range(whole=True).convert(f"{stop}:{start}:-{step}", None, None).tolist()
    assert down == list(range(stop, start - 1, -step))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("text", ["", ",", "1,", "a", "1:2:", "1:2:3:4", "1:2:0", "2:1:1", "1:2:-1", ":", "nan:1:1"])
def test_what_is_no_range_is_refused(whole, text):
    with pytest.raises(click.BadParameter, match="is not a range"):
        Range(whole=whole).convert(text, None, None)


# ---- callables


@pytest.mark.parametrize("name", ["mine.py:build", "./mine.py:build", "mine:build"])
def test_a_function_is_named_by_its_file_or_its_module(here, name, monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)
    Path("mine.py").write_text("def build(size):\n    return lambda: None\n")
    assert common.names_object(name)
    assert common.load_object(name).__name__ == "build"
    done = call("bench", name, "--sizes", "1:2", "--repeats", 1, "--iterations", 1, "-o", "s", "-c", "cpu", "--quiet")
    assert "2 runs done, 0 failed" in done.output
    with pytest.raises(common.AskedWrongly, match=re.escape("has no 'biuld'. Did you mean 'build'?")):
        common.load_object(name.replace("build", "biuld"))


def test_estimate_takes_a_function_of_a_file(here):
    pytest.importorskip("torch")
    Path("net.py").write_text("import torch\n\ndef make():\n    return torch.nn.Linear(4, 2)\n")
    found = json.loads(call("estimate", "net.py:make", "--input-shape", "4", "--json").stdout)
    assert [layer["kind"] for layer in found["layers"]] == ["Linear"]


# ---- help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help_and_the_summary_fits_the_list_of_commands(name):
    for option in (o for n, o in OPTIONS if n == name):
        assert option.help, option.opts
        assert option.help[0].isupper() or option.help.split()[0].rstrip(":,") in NAMES, option.help
    assert not COMMAND[name].get_short_help_str(63).endswith("...")


NAMES = {"aipowermeter", "sizes", "dense", "physical"}


def test_a_row_for_people_is_in_units_of_speech():
    row = {"id": "a", "energy_j": 2.854e-06, "power_w": None, "covered_s": 12.0, "max": 3.5, "runs": 2}
    assert common.spoken(row) == {
        "id": "a", "energy": "2.854 uJ", "power": "-", "covered": "12.00 s", "max": 3.5, "runs": 2
    }  # fmt: skip
