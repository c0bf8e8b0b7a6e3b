"""docs/tutorial.md, command by command, with two steps a run."""

import pytest

from tests.tutorial.run import execute, prepare
from tests.tutorial.text import TUTORIAL, matched, shortened, steps

pytestmark = pytest.mark.interop


def test_every_command_of_the_tutorial_works_and_prints_what_it_shows(tmp_path):
    environment = prepare(tmp_path) | {"OMP_NUM_THREADS": "2"}
    lost = []
    for step in steps(TUTORIAL.read_text(encoding="utf-8")):
        printed = execute(shortened(step.commands), tmp_path, environment)
        lost += [line for line, found in matched(step.shown, printed) if found is None]
    assert not lost, "shown, but not printed:\n" + "\n".join(lost)
