"""Citations of docs/deepmd-format.md: every section that code or tests name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("cli", "schemas", "zoo", "dpa2", "tests", "benchmarks")
PAGE = "docs/deepmd-format.md"

NUMBER = r"\d+(?:\.\d+)*b?"
HEADING = re.compile(rf"^#{{2,4}} ({NUMBER}) ", re.MULTILINE)
PAGE_NAMED = re.compile(re.escape(PAGE))
CITED = re.compile(rf"{re.escape(PAGE)}, ({NUMBER}(?:(?:, | - | and ){NUMBER})*)(?![\w.]*\w)")
OTHER_FORM = re.compile(
    r"(?<![\w/-])[Ss]pec(?:ification)?,? (?:sections? )?\d"
    r"|[Ii]nterop(?:erability)?[- ][Ss]pec(?:ification)?\b"
)


def on_one_line(text: str) -> str:
    """Return a text without the line ends, indentations and comment signs that break citations."""
    return re.sub(r"[ \t]*\n[ \t]*(?:#[ \t]*)?", " ", text)


def wrong_citations(text: str, sections: set[str]) -> list[str]:
    """Return what is wrong with the citations in a text: one line each."""
    text = on_one_line(text)
    cited = list(CITED.finditer(text))
    with_section = {match.start() for match in cited}
    unknown = [
        f"no section {number}: {match[0]}"
        for match in cited
        for number in re.findall(NUMBER, match[1])
        if number not in sections
    ]
    bare = [
        f"no section is named: {text[match.start() : match.end() + 20]}"
        for match in PAGE_NAMED.finditer(text)
        if match.start() not in with_section
    ]
    return unknown + bare + [f"another form: {match[0]}" for match in OTHER_FORM.finditer(text)]


def numbers_of_headings() -> list[str]:
    """Return the numbers of all sections of the page, in its order."""
    return HEADING.findall((ROOT / PAGE).read_text(encoding="utf-8"))


def test_numbers_of_sections_are_given_once() -> None:
    numbers = numbers_of_headings()
    assert len(numbers) > 50
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("room", ROOMS)
def test_cited_sections_exist(room: str) -> None:
    sections = set(numbers_of_headings())
    paths = [path for end in ("py", "toml") for path in (ROOT / room).rglob(f"*.{end}")]
    assert paths
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in paths
        if path != Path(__file__)
        and (found := wrong_citations(path.read_text(encoding="utf-8"), sections))
    }
    assert not wrong


def test_the_network_is_cited() -> None:
    """The search above finds what it is meant to find."""
    text = on_one_line((ROOT / "dpa2/model/attention.py").read_text(encoding="utf-8"))
    assert [match[1] for match in CITED.finditer(text)] == ["3.8"] * 3


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (f"({PAGE}, 3.8; DPA-2 paper)", 0),
        (f"({PAGE}, 1.2 - 1.5, 3.12).", 0),
        (f"# {PAGE},\n    # 3.1, item 6", 0),
        (f"({PAGE}, 3.8, 99.9)", 1),
        (f"{PAGE}, 3.80", 1),
        (f"as {PAGE} says", 1),
        ("what the spec says", 0),
        ("https://git-lfs.github.com/spec/v1", 0),
        ("(spec 3.8)", 1),
        ("the interop\n    specification, section 4", 1),
        ("Interop-spec 6.2", 1),
    ],
)
def test_wrong_citations_are_found(text: str, wrong: int) -> None:
    assert len(wrong_citations(text, set(numbers_of_headings()))) == wrong
