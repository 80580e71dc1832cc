"""Several boards in one table, headers and rows of another width: told apart, recovered, or reported."""

from __future__ import annotations

import pytest

from fastgreen.errors import TraceError
from fastgreen.recordings.readers import read, read_nvidia_smi
from tests.oracles.places import CASES

T = "2026/11/20 10:00:0"
cases = pytest.mark.skipif(not CASES.exists(), reason=f"the cases are not at {CASES}")


def log(path, text):
    path.write_text(text)
    return path


def boards(columns, *rows):
    """A log of 10 s, read each 2 s: a row per board and moment. MOMENT in a row is the stamp."""
    lines = [row.replace("MOMENT", f"{T}{2 * i}.000") for i in range(5) for row in rows]
    return f"{columns}\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        boards("timestamp, power.draw [W]", "MOMENT, 50 W", "MOMENT, 250 W"),
        boards("timestamp, name, power.draw [W]", "MOMENT, T4, 50 W", "MOMENT, A100, 250 W"),
        boards("timestamp, name, power.draw [W]", "MOMENT, T4, 50 W", "MOMENT, T4, 250 W"),
        boards("timestamp, uuid, power.draw [W]", "MOMENT, GPU-a, 50 W", "MOMENT, GPU-b, 250 W"),
        boards("timestamp, pci.bus_id, power.draw [W]", "MOMENT, 00:01.0, 50 W", "MOMENT, 00:02.0, 250 W"),
        boards("timestamp, index, uuid, power.draw [W]", "MOMENT, 0, GPU-a, 50 W", "MOMENT, 0, GPU-b, 250 W"),
        boards("timestamp, index, power.draw [W]", "MOMENT, 0, 50 W", "MOMENT, 1, 250 W"),
        "timestamp, power.draw [W]\n" + "".join(f"{T}{2 * i}.000, 50 W\n{T}{2 * i}.004, 250 W\n" for i in range(5)),
    ],
)
def test_two_boards_are_two_channels(tmp_path, text):
    recording = read_nvidia_smi(log(tmp_path / "log.csv", text))
    assert recording.energy_j() == {"gpu:0": pytest.approx(400.0), "gpu:1": pytest.approx(2000.0)}
    assert recording.total_j == pytest.approx(2400.0)


@pytest.mark.parametrize("number", [2, 3, 8])
def test_any_number_of_boards_without_a_name(tmp_path, number):
    text = boards("timestamp, power.draw [W]", *(f"MOMENT, {10 * (i + 1)} W" for i in range(number)))
    recording = read_nvidia_smi(log(tmp_path / "log.csv", text))
    assert list(recording.energy_j().values()) == pytest.approx([80.0 * (i + 1) for i in range(number)])
    assert f"read as {number} devices" in recording.notes[0]


@pytest.mark.parametrize(
    "rows",
    [
        [(f"{T}{i}", w) for i in range(5) for w in (50, 250)],
        [(f"{T}{i}.000", w) for i in range(8) for w in (50, 250, 20)[: 1 + i % 3]],
        [(f"{T}{i}", w) for i in range(3) for w in (50, 250, 20)],
    ],
)
def test_boards_that_cannot_be_told_apart_are_refused_with_the_column_to_add(tmp_path, rows):
    file = log(tmp_path / "log.csv", "timestamp, power.draw [W]\n" + "".join(f"{m}, {w} W\n" for m, w in rows))
    with pytest.raises(TraceError, match="add index to --query-gpu"):
        read_nvidia_smi(file)


def test_one_board_faster_than_its_clock_in_whole_seconds_is_one_board(tmp_path):
    rows = [f"{T}{i}, 100 W\n" for i in range(6) for _ in range((3, 4, 2)[i % 3])]
    recording = read_nvidia_smi(log(tmp_path / "log.csv", "timestamp, power.draw [W]\n" + "".join(rows)))
    assert recording.energy_j() == {"gpu:0": pytest.approx(500.0)}
    assert "read as one device" in recording.notes[0]


def test_a_board_that_changes_its_index_stays_the_same_board(tmp_path):
    rows = [
        f"{T}{i}.0, {board if i < 3 else 1 - board}, GPU-{board}, {100 + 100 * board} W\n"
        for i in range(6)
        for board in (0, 1)
    ]
    recording = read_nvidia_smi(log(tmp_path / "log.csv", "timestamp, index, uuid, power.draw [W]\n" + "".join(rows)))
    assert recording.energy_j() == {"gpu:0": pytest.approx(500.0), "gpu:1": pytest.approx(1000.0)}


def test_a_moment_without_a_row_of_each_board_is_left_out_and_reported(tmp_path):
    lines = boards("timestamp, power.draw [W]", "MOMENT, 50 W", "MOMENT, 250 W").splitlines(keepends=True)
    del lines[6]
    recording = read_nvidia_smi(log(tmp_path / "log.csv", "".join(lines)))
    assert recording.total_j == pytest.approx(2400.0)
    assert "1 row of groups without a row of each device: left out" in recording.notes


HEAD = "timestamp, index, power.draw [W]\n"
ROWS = [f"{T}{i}.000, 0, 100 W\n" for i in range(6)]


@pytest.mark.parametrize(
    ("text", "joules", "note"),
    [
        (HEAD + "".join(ROWS), 500, None),
        (HEAD + "".join(ROWS[:3]) + HEAD + "".join(ROWS[3:]), 500, None),
        (
            HEAD
            + "".join(ROWS[:3])
            + "timestamp, power.draw [W], index\n"
            + "".join(f"{T}{i}.000, 100 W, 0\n" for i in (3, 4, 5)),
            500,
            "the columns change 1 time",
        ),
        (
            HEAD
            + "".join(ROWS[:3])
            + "timestamp, index, utilization.gpu [%], power.draw [mW]\n"
            + "".join(f"{T}{i}.000, 0, 5 %, 100000 mW\n" for i in (3, 4, 5)),
            500,
            "the columns change 1 time",
        ),
        (HEAD + ROWS[0].strip() + "".join(ROWS[1:]), 500, "1 row without a line of its own: read as a row"),
        (HEAD + "".join(row.strip() for row in ROWS), 500, "5 rows without a line of their own: read as a row"),
        (HEAD + "".join(ROWS[:3]) + f"{T}3.000, 0, 99,5 W\n" + "".join(ROWS[4:]), 500, "1 row wider than the header"),
        (HEAD + "".join(row.replace("\n", ",\n") for row in ROWS), 500, None),
        (HEAD + "".join(ROWS[:3]) + '"' + "".join(ROWS[3:]), 500, None),
    ],
)
def test_nothing_vanishes_without_a_note(tmp_path, text, joules, note):
    recording = read_nvidia_smi(log(tmp_path / "log.csv", text))
    assert recording.total_j == pytest.approx(joules)
    if note is None:
        assert recording.notes == []
    else:
        assert any(note.replace("their own", "its own") in said for said in recording.notes), recording.notes


@pytest.mark.parametrize(
    ("columns", "row", "joules", "counts"),
    [
        ("power.draw.instant [W], power.draw.average [W]", "100 W, 90 W", 200, "gpu:0/instant"),
        ("power.draw.average [W], power.draw.instant [W]", "90 W, 100 W", 200, "gpu:0/instant"),
        ("power.draw.average [W]", "90 W", 180, "gpu:0/average"),
        ("power.draw [W], power.draw.instant [W]", "[N/A], 100 W", 200, "gpu:0/instant"),
        ("power.draw [W], power.draw.instant [W], power.draw.average [W]", "[N/A], [N/A], 90 W", 180, "gpu:0/average"),
        ("power.draw [W], power.draw.instant [W]", "80 W, 100 W", 160, None),
    ],
)
def test_the_power_that_counts_is_named(tmp_path, columns, row, joules, counts):
    text = f"timestamp, index, {columns}\n" + "".join(f"{T}{i}.0, 0, {row}\n" for i in range(3))
    recording = read(log(tmp_path / "log.csv", text))
    assert recording.total_j == pytest.approx(joules)
    assert recording.to_result().energy_j == pytest.approx(joules)
    assert not any("no channel gave a reading" in note for note in recording.to_result().notes)
    said = [note for note in recording.notes if "counts" in note]
    assert said == ([f"{counts} counts: power.draw has no value"] if counts else [])


@pytest.mark.parametrize(
    ("row", "options", "joules"),
    [
        ("MOMENT, 0, 100.00", {}, 800),
        ("MOMENT, 100.00 W", {}, 800),
        ("MOMENT, T4, 7 %, 100.00 W, 12 MiB", {}, 800),
        ("MOMENT, 0, 300.00, 100.00", {"columns": ["timestamp", "index", "power.limit", "power.draw"]}, 800),
        ("MOMENT, 100", {"columns": ["timestamp", "power.draw"]}, 800),
    ],
)
def test_a_log_without_a_header_is_read_by_its_content_or_by_the_names_given(tmp_path, row, options, joules):
    text = boards("", row).lstrip("\n")
    recording = read(log(tmp_path / "log.csv", text), "nvidia-smi", **options)
    assert recording.total_j == pytest.approx(joules)
    assert (not options) == any("no header" in note for note in recording.notes)


def test_columns_that_may_each_be_the_power_are_refused_with_the_option(tmp_path):
    with pytest.raises(TraceError, match="--columns timestamp,index"):
        read_nvidia_smi(log(tmp_path / "log.csv", boards("", "MOMENT, 0, 300.00, 100.00").lstrip("\n")))


@cases
@pytest.mark.parametrize(
    ("name", "joules"),
    [("smi-two-gpus-no-index.csv", 3000), ("smi-instant-only.csv", 1000), ("smi-noheader-nounits.csv", 200)],
)
def test_cases(name, joules):
    assert read(CASES / name).total_j == pytest.approx(joules)
