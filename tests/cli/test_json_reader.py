"""The reader of JSON: the same as Python's where a text is JSON, and no fault hides another."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.text import read_document
from tests.fuzz_validate import broken, mutated, repaired_twice

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)  # fmt: skip


def no_odd_character(value):
    text = json.dumps(value)
    return "\\u0000" not in text and "\\ud" not in text.lower()


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.dictionaries(st.text(max_size=5), JSON).filter(no_odd_character), st.booleans())
def test_a_json_text_is_read_as_python_reads_it(data, plain):
    text = json.dumps(data, indent=None if plain else 1, ensure_ascii=plain)
    document = read_document(text, "x.json")
    assert document.findings == []
    assert document.data == data
    for path, span in document.values.items():
        value = data
        for part in path:
            value = value[part]
        assert json.loads(document.lines_of.slice(span)) == value


def test_every_fault_of_a_text_is_found_at_once():
    text = '{\'a\': True, b: 1.,\n "c" 2 "d": [1,,2,], // e\n "x": NaN, "f": \'g\',}'
    document = read_document(text, "x.json")
    assert document.data == {
        "a": True,
        "b": 1.0,
        "c": 2,
        "d": [1, 2],
        "f": "g",
        "x": document.data["x"],
    }
    assert len(document.findings) == 12


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": }', "a value is missing"),
        ('{"a": 1]', "should close"),
        ('{"a": 1', "ends too early"),
        ('{"a', "no closing quote"),
        ('{"a": 1} {', "goes on"),
        ("{1: {", "ends too early"),
        ("{[", "a key in double quotes"),
        ("<html>", "HTML"),
        ("{" * 100_000, "double quotes"),
        ('{"a":' * 1000, "nested too deeply"),
    ],
)
def test_a_text_of_which_nothing_can_be_made_is_explained(text, words):
    document = read_document(text, "x.json")
    assert document.data is None
    assert any(words in item.message for item in document.findings)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_changed_inputs_are_checked_and_repaired_for_good(seed):
    rng = random.Random(seed)
    text, name = mutated(rng)
    repaired_twice(text, name)
    repaired_twice(broken(rng).decode("utf-8", "replace"), "input.json")
