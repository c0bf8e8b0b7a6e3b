"""A few broken files of structures of every format; `python -m tests.fuzz_structures` has more."""

import random

from tests.fuzz_structures import fuzz
from tests.fuzzing import Tally


def test_broken_files_are_read_or_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tally = Tally()
    fuzz(random.Random(7), tally, 250)
    assert not tally.errors
    assert tally.counts["read"] > 20
    assert tally.counts["refused"] > 50
