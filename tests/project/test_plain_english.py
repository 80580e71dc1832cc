# SPDX-License-Identifier: Apache-2.0
"""The text that a user sees avoids the words that CONTRIBUTING.md lists."""

import re

import click
import pytest

from tests.oracles.places import ROOT
from tests.project.plain_english import AVOID, everything, helps, messages, offences, prose

# A phrase with a word to avoid -> the reason why a reader understands it.
ALLOWED = {
    "no such": "the words of the operating system for a missing file",
    "No such": "the same",
}


def test_no_text_that_a_user_sees_has_a_word_to_avoid():
    texts = list(everything())
    found = [f"{place}: {words}" for place, text in texts for words in offences(text, tuple(ALLOWED))]
    assert found == []
    places = " ".join(place for place, _ in texts)
    for known in ("README.md", "fastgreen run hz", "fastgreen.Monitor.window", "fastgreen/sensors/rapl.py"):
        assert known in places, "a kind of text is not read"


def test_each_allowed_phrase_is_still_in_use():
    texts = [text for _, text in everything()]
    assert [phrase for phrase in ALLOWED if not any(phrase in text for text in texts)] == []


def test_the_words_are_those_of_the_page():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.search(r"^\| avoid \| write \|\n\|---\|---\|\n(.*?)\n\n", page, re.MULTILINE | re.DOTALL)[1]
    assert [row.split("|")[1].strip() for row in rows.splitlines()] == list(AVOID)


@pytest.mark.parametrize(
    "text",
    [
        "It shows what a laptop draws.",
        "A sensor who sleeps.",
        "The sum is that which counts.",
        "The file holds\nnone of them.",
        "The user was told.",
        "This mends the counter.",
        "Look round the loop.",
        "The run is done anew.",
        "0 stands for the total.",
        "The truth lies within.",
        "A table of such rows.",
        "Close it, lest it leaks.",
        "It is done. Of these, two remain.",
        "That it holds is shown.",
    ],
)
def test_a_planted_offence_is_found(text):
    assert len(offences(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "A person who reads the counter.",
        "files such as this",
        "The value None.",
        "rounded to 3 digits",
        "a stand-in",
        "It shows that.",
    ],
)
def test_a_plain_sentence_passes(text):
    assert offences(text) == []


def test_an_allowed_phrase_does_not_count():
    assert offences("There is no such file.", ("no such",)) == []


def test_a_page_is_read_without_its_code(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nUse `what` here.\n\n```sh\nwhat\n```\n\n- It is told.\n- Fine\n  and long.\n")
    assert [words for _, text in prose(page) for words in offences(text)] == ["It is told."]


def test_the_help_of_each_option_and_inner_command_is_read():
    inner = click.Command("inner", help="Said once.", params=[click.Option(["--x"], help="Such an x.")])
    group = click.Group("outer", commands={"inner": inner})
    assert [place for place, text in helps(group, "outer") if offences(text)] == ["outer inner", "outer inner x"]


@pytest.mark.parametrize(
    "source",
    [
        "raise ValueError(f'{x} is what it holds')",
        "raise ValueError('a' + ' b what') from error",
        "warnings.warn('it was told', UserWarning)",
        "self.notes.add(f'{name} lies there')",
        "click.echo('it is\\nsaid' if x else '')",
        "SourceStatus('rapl', 0, 'there is none here')",
        "Channel(note='it stands there')",
        "fields = {'reason': 'it is done anew'}",
    ],
)
def test_each_form_of_a_message_is_read(source):
    assert [words for _, text in messages(source) for words in offences(text)]


def test_code_that_no_user_reads_is_not_judged():
    assert list(messages("x = 'what is this'\nprint_it('none of it')\n# told\n")) == []
