# SPDX-License-Identifier: Apache-2.0
"""``fastgreen share``: a run folder and a file of spans become a table of joules."""

from __future__ import annotations

import csv
import json
import time

import pytest
from click.testing import CliRunner

import fastgreen as fg
from fastgreen.cli import main


def share(*words):
    return CliRunner().invoke(main, ["share", *map(str, words)])


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    """A recorded run of 0.3 s, and a table and a trace of what was done in it."""
    folder = tmp_path_factory.mktemp("share")
    began = time.monotonic_ns()
    with fg.Monitor(record=folder / "run"):
        time.sleep(0.3)
    end = time.monotonic_ns()
    (folder / "t.csv").write_text(f"name,begin_ns,end_ns\n=a,{began},{end}\nb,{began},{end}\n")
    event = {"ph": "X", "name": "\x1b[31mop", "ts": began / 1000, "dur": (end - began) / 1000, "pid": 1, "tid": 1}
    (folder / "t.json").write_text(json.dumps({"traceEvents": [event]}))
    return folder


def test_a_table_for_people_has_the_energies_and_the_rule(spans):
    done = share(spans / "run", "--spans", spans / "t.csv")
    assert done.exit_code == 0, done.output
    assert "charged to no span" in done.output
    assert "rule: at each instant" in done.output


def test_json_has_rows_and_totals(spans):
    found = json.loads(share(spans / "run", "--spans", spans / "t.csv", "--json", "--baseline", "1").output)
    total = sum(row["energy_j"] for row in found["spans"]) + found["unattributed_j"] + found["baseline_j"]
    assert total == pytest.approx(found["drawn_j"], rel=1e-9)
    assert found["source"] == "a table"


def test_a_file_of_each_span_is_written(spans):
    assert share(spans / "run", "--spans", spans / "t.csv", "-o", spans / "o.csv", "--each").exit_code == 0
    rows = list(csv.DictReader((spans / "o.csv").open()))
    assert [row["name"] for row in rows] == ["'=a", "b"]
    assert float(rows[0]["energy_j"]) == pytest.approx(float(rows[1]["energy_j"]))


def test_a_hostile_name_prints_nothing_that_a_terminal_obeys(spans):
    done = share(spans / "run", "--spans", spans / "t.json")
    assert done.exit_code == 0
    assert "\x1b" not in done.output


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--spans", "nothing.json"], 1, "does not exist"),
        (["--spans", "t.csv", "--each"], 2, "--each needs -o"),
        (["--spans", "t.csv", "--begin", "x"], 2, "begin must be one of the columns"),
        (["--spans", "t.json", "--begin", "x"], 2, "begin must be left out"),
        (["--spans", "t.csv", "--baseline", "much"], 2, "--baseline must be W or CHANNEL=W"),
        (["--spans", "t.csv", "--baseline", "-1"], 2, "baseline_w must be a number of watts"),
        (["--spans", "t.csv", "--gpu", "x"], 2, "--gpu must be N=CHANNEL"),
        (["--spans", "t.csv", "-c", "nvml:9"], 1, "no channel matches"),
        (["--spans", "t.csv", "--clock", "realtime"], 1, "must be of the time of the run"),
        (["--spans", "t.csv", "--shift", "nan"], 2, "shift must be a number"),
        (["--spans", "t.csv", "--shift", "1e6"], 1, "must be of the time of the run"),
        ([], 2, "Missing option"),
    ],
)
def test_a_mistake_gets_a_sentence_and_an_exit_code(spans, words, code, said):
    words = [spans / word if "." in word and ("t." in word or word == "nothing.json") else word for word in words]
    done = share(spans / "run", *words)
    assert (done.exit_code, said in done.output) == (code, True), done.output
