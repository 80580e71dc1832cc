"""`fastgreen bench` as a user types it wrong: one sentence, an exit code, and nothing silently left out."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.experiment.protocols import for_torch

MINE = """
def build(size):
    return lambda: sum(range(size))

def odd(size):
    if size % 2:
        raise ValueError("odd")
    return lambda: None
"""


def bench(*words):
    words = [*words, "--channel", "procstat:*", "--quiet", "--repeats", 1]
    return CliRunner().invoke(main, ["bench", *map(str, words)], env={"COLUMNS": "200"})


def said(done):
    assert "Traceback" not in done.output
    return " ".join(done.output.split())


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def f(:\n", "broken.py: SyntaxError: invalid syntax (broken.py, line 1)"),
        ("import nothere\n", "broken.py: ModuleNotFoundError: No module named 'nothere'"),
        ("x = 1 / 0\n", "broken.py: ZeroDivisionError: division by zero (line 1)"),
        ("def f():\n  raise KeyError('k')\n\n\nf()\n", "broken.py: KeyError: 'k' (line 2)"),
        ("raise SystemExit(7)\n", "broken.py: SystemExit: 7 (line 1)"),
        ("\0", "broken.py: SyntaxError"),
    ],
)
def test_a_file_that_does_not_run_is_one_sentence_with_its_line(here, text, sentence):
    Path("broken.py").write_text(text)
    done = bench("broken.py:f", "--sizes", "1", "-o", "s")
    assert done.exit_code == 1
    assert sentence in said(done)
    assert not Path("s").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["mine.py:build", "--sizes", "1", "--scale", "0.1"], "--scale: only a published series can be scaled"),
        (["mine.py:build", "--sizes", "1", "--device", "cuda"], "--device: only PyTorch models take a device"),
        (["mine.py:build", "more", "--sizes", "1"], "more: only 'command' takes arguments"),
        (["alexnet", "more"], "more: only 'command' takes arguments"),
        (["mine.py", "--sizes", "1"], "mine.py: add the name of the function: mine.py:NAME"),
        (["mine.py:build", "--sizes", "1", "--hz", "0"], "hz must be"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(here, words, sentence):
    done = bench(*words, "-o", "s")
    assert done.exit_code == 2
    assert sentence in said(done)
    assert not Path("s").exists()


def test_a_series_takes_another_warm_up(here):
    from fastgreen.commands.bench import _protocol

    options = dict.fromkeys(("iterations", "scale", "device")) | {"warmup": 7}
    assert _protocol("bert", (), None, options).warmup == 7
    assert _protocol("bert", (), None, options | {"warmup": None}).warmup == 2


def test_a_study_is_named_after_its_file_and_another_function_is_another_study(here):
    Path("other.py").write_text(MINE)
    assert bench("mine.py:build", "--sizes", "1,2", "-o", "s").exit_code == 0
    done = bench("other.py:build", "--sizes", "1,2", "-o", "s")
    assert done.exit_code == 2
    assert "holds a study with" in said(done)
    compiled = CliRunner().invoke(main, ["compile", "s", "--no-pictures"])
    assert "mine:build: medians per inference" in compiled.output


def test_sizes_that_fail_alike_are_told_once_and_in_order(here):
    done = bench("mine.py:odd", "--sizes", "1:6:1", "-o", "s")
    assert done.exit_code == 0
    assert "sizes 1, 3, 5: ValueError: odd" in said(done)
    assert "s/input_1/run_0/error.txt" in said(done)
    assert "--retry-failed" in said(done)


def test_a_damaged_run_is_told_in_one_line(here):
    bench("mine.py:build", "--sizes", "1,2", "-o", "s")
    Path("s/input_1/run_0/status.json").write_text("")
    done = bench("mine.py:build", "--sizes", "1,2", "-o", "s")
    assert [line.startswith("note: s/input_1/run_0 is damaged") for line in done.output.splitlines()].count(True) == 1
    assert "FastgreenWarning" not in done.output
    assert "2 runs done, 0 failed" in done.output


def test_a_finished_study_says_that_nothing_is_to_be_done(here):
    bench("mine.py:build", "--sizes", "1", "-o", "s")
    assert "nothing is left to do" in said(bench("mine.py:build", "--sizes", "1", "-o", "s"))


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
def test_a_torch_file_of_another_kind_says_how_to_save_it(here):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.save(torch.nn.Linear(1, 1).state_dict(), "weights.pt")
    Path("weights.pt2").write_bytes(Path("weights.pt").read_bytes())
    Path("no_zip.pth").write_text("hello")
    for name in ("weights.pt", "weights.pt2", "no_zip.pth"):
        done = bench(name, "--trust", "--sizes", "8", "--iterations", 1, "-o", f"of-{name}")
        assert done.exit_code == 1
        assert f"{name} must be a program" in said(done)
        assert "torch.export.save" in said(done)


class Trap:
    """Writes a file where it is unpickled."""

    def __reduce__(self):
        return open, ("sprung", "w")


@pytest.mark.parametrize("name", ["trap.pt", "trap.pt2", "trap.pth"])
def test_a_file_that_pytorch_may_unpickle_is_not_opened_without_trust(here, name):
    Path(name).write_bytes(pickle.dumps(Trap()))
    done = bench(name, "--sizes", "8", "-o", "of-trap")
    assert done.exit_code == 2
    assert "can run any code" in said(done)
    assert "--trust" in said(done)
    assert not Path("sprung").exists()
    assert not Path("of-trap").exists()
    with pytest.raises(ValueError, match="trust=True"):
        for_torch(name, [8])


def test_trust_is_for_files_of_pytorch_only(here):
    done = bench("mine.py:build", "--trust", "--sizes", "1", "-o", "s")
    assert done.exit_code == 2
    assert "--trust: only a .pt, .pt2 or .pth file" in said(done)
    assert "which can run any code of its author" in said(bench("--help"))
