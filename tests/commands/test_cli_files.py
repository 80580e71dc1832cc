"""Every command with a file that is missing, a folder for a file, a file for a folder, and nowhere to write."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.commands.common import sentence

AXES = "--consumption 0:1:0.1 --accuracy 0:1:0.1"
STUDY = "--sizes 1 --repeats 1 --quiet"
# `nowhere` lies below a file, so nothing can be made there.
COMMANDS = f"""
report nope
report file
report folder
run -o file -- true
run -o nowhere -- true
sweep apc {AXES} -o folder
sweep apc {AXES} -o nowhere
sweep apc {AXES} -o nope/x
sweep ttcapc --best 1 --runs nope
sweep ttcapc --best 1 --runs folder
sweep ttcapc --best 1 --runs file
plot nope
plot folder
plot file
figures -o file
figures -o nowhere
metrics nope
metrics folder
metrics file
demo --seconds 0.1 -o file
demo --seconds 0.1 -o nowhere
estimate nope.onnx
estimate folder.onnx
estimate folder
estimate file
estimate nope.toml
estimate vgg11 --models nope
estimate vgg11 --models file
estimate vgg11 --models folder
estimate vgg11 -o nowhere
estimate vgg11 -o nope/x
estimate vgg11 -o folder
estimate vgg11 --picture nowhere.png
estimate vgg11 --grid 1:3 -o nowhere
estimate vgg11 --grid 1:3 --sweep nowhere
collect nope
collect folder
collect file
fit nope
fit file
fit folder
ablation nope
ablation file
ablation folder
bench nope.onnx -o study {STUDY}
bench nope.pt -o study {STUDY}
bench nope.py:f -o study {STUDY}
bench folder -o study {STUDY}
bench command -o file {STUDY} -- true
bench command -o nowhere {STUDY} -- true
compile nope
compile file
compile folder
import nope
import folder
import nope --format codecarbon
import folder --format codecarbon
import folder --format nvidia-smi
import folder --format omegawatt
tradeoff nope
tradeoff folder
tradeoff folder.parquet
tradeoff nope.arrow
calibrate --seconds 0.5 -c nope
"""


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x,y\n1,2\n")
    for name in ("folder", "folder.onnx", "folder.parquet"):
        Path(name).mkdir()
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS.strip().splitlines())
def test_a_path_that_cannot_be_is_one_sentence_with_its_name(command, place):
    words = [w.replace("nowhere", "file/sub/out") for w in shlex.split(command)]
    done = CliRunner().invoke(main, words)
    if isinstance(done.exception, ImportError) or "pip install" in done.output:
        pytest.skip(done.output)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (1, 2)
    last = done.output.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert "rrno" not in last
    assert any(
        w.removesuffix("/x").removesuffix("/out").removesuffix(":f") in last
        for w in words
        if w.startswith(("nope", "f"))
    ), last


def test_sentences_of_system_calls_name_the_file_and_keep_no_number(tmp_path):
    pa = pytest.importorskip("pyarrow")
    for act, what in (
        (lambda: tmp_path.read_text(), f"{tmp_path}: Is a directory"),
        (lambda: (tmp_path / "a").rename(tmp_path / "b"), f"{tmp_path / 'a'}: No such file or directory"),
        (lambda: pa.OSFile(str(tmp_path / "no" / "x"), "wb"), f"{tmp_path / 'no' / 'x'}: No such file or directory"),
        (lambda: pa.memory_map(str(tmp_path / "no")), f"{tmp_path / 'no'}: No such file or directory"),
    ):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            act()
        assert sentence(caught.value) == what
    assert sentence(ValueError("as it is")) == "as it is"
