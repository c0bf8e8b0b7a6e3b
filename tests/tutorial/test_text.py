from tests.tutorial.text import TUTORIAL, matched, shortened, steps, words


def test_output_belongs_to_the_commands_right_before_it():
    text = (
        "a\n```sh\nzoo list\n```\n\n```text\none\n...\n```\n"
        "b\n```sh\nzoo show\n```\nc\n```text\nx\n```\n"
    )
    first, second = steps(text)
    assert (first.commands, first.shown) == ("zoo list\n", ["one", "..."])
    assert text[slice(*first.place)] == "one\n...\n"
    assert (second.commands, second.shown, second.place) == ("zoo show\n", [], None)


def test_numbers_and_spacing_do_not_count():
    assert words("  Force     0.1162   eV/Å") == words("Force 12 eV/Å")
    assert words("H2O_GFN1-xTB 0.3") != words("H2O_GFN2-xTB 0.3")
    assert words("input 0f01402d671f,") == words("input 12,")
    assert words("Force") != words("Energy")


def test_lines_are_found_in_order_and_a_lost_one_is_seen():
    printed = ["a 1", "b 2", "c 3"]
    assert list(matched(["a 9", "...", "c 9"], printed)) == [
        ("a 9", "a 1"),
        ("...", "..."),
        ("c 9", "c 3"),
    ]
    assert list(matched(["c 9", "a 9"], printed)) == [("c 9", "c 3"), ("a 9", None)]


def test_training_can_be_shortened():
    assert shortened("zoo train i --set training.numb_steps=200") == (
        "zoo train i --set training.numb_steps=2"
    )


def test_the_tutorial_has_commands_and_shows_output():
    found = list(steps(TUTORIAL.read_text(encoding="utf-8")))
    assert len(found) > 10
    assert sum(bool(step.shown) for step in found) > 8
