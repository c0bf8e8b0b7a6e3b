"""The table of situations is that of the tests."""

from collections import Counter

from tests.strangers.situations import TABLE, situations, table


def test_the_table_is_what_the_tests_say():
    assert TABLE.read_text(encoding="utf-8") == table(), "python -m tests.strangers.situations"


def test_every_situation_is_one_of_many_and_stands_once():
    count = Counter(row[:3] for row in situations())
    assert len(count) >= 80
    assert not [row for row, times in count.items() if times > 1]
