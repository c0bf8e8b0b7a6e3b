"""Read JSON as people write it: every fault of the text is found, and reading goes on.

Where it is plain what was meant (a trailing comma, single quotes, a comment) the value is read as
meant and the finding has a fix; where it is not, reading goes on to find other faults but nothing
is made of the text.
"""

import json
import math
import re
from typing import Any

from schemas.base.diagnostics import Edit, Finding, Fix, Group, Path, Related
from schemas.text.document import BYTE_ORDER_MARK, NOTHING, Document, check_scalar

_BLANK = re.compile(r"[ \t\r\n\ufeff\u00a0]*")
_COMMENT = re.compile(r"//[^\r\n]*|#[^\r\n]*|/\*.*?(\*/|\Z)", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\r\n]|\\[^\r\n])*"')
_SINGLE = re.compile(r"'((?:[^'\\\r\n]|\\[^\r\n])*)'")
_QUOTES = "\u201c\u201d\u201e\u201f\u2018\u2019\u00ab\u00bb"
_TYPOGRAPHIC = re.compile(f'[{_QUOTES}]([^{_QUOTES}"\\r\\n]*)[{_QUOTES}"]')
_WORD = re.compile(r"""[^\s{}\[\]:,"'/#]+""")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_NAME = re.compile(r"[A-Za-z_$][\w.$-]*", re.ASCII)
_BAD_ESCAPE = re.compile(r'\\(?![\\"/bfnrt]|u[0-9a-fA-F]{4})|\\(["\\/bfnrtu])')
_WORDS = {"true": True, "false": False, "none": None, "null": None}
_NOT_FINITE = {"nan": math.nan, "infinity": math.inf, "inf": math.inf}
_NO_COMMENTS = "JSON has no comments"
_INSTEAD = "use a key that starts with an underscore instead"
_MARKS = re.compile(r"^(//+|#+|/\*+)[ \t]*|[ \t]*\*/$")
_DEEPEST = 200
_MOST_FAULTS = 50
_MOST_HABITS = 5000


class _StopReading(Exception):  # noqa: N818 - not an error: the findings are
    """Nothing sensible can be read from here on."""


def read_json(document: Document) -> Any:
    """Return the value of a JSON text, `NOTHING` if nothing can be made of it."""
    reader = _Reader(document)
    try:
        value = reader.whole()
    except _StopReading:
        return NOTHING
    return NOTHING if reader.broken else value


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.text = document.lines_of.text
        self.at = 0
        self.end = 0  # where the last token ended
        self.broken = False
        self.slips = 0

    def whole(self) -> Any:
        if self.text.lstrip(BYTE_ORDER_MARK + " \t\r\n").startswith("<"):
            start = self.text.index("<")
            self.stop(start, (), "this is an HTML or XML page, not an input file")
        value = self.value((), 0)
        self.skip(())
        if self.at < len(self.text):
            message = "the text goes on after the end of the object"
            self.fault(self.at, self.at + 1, (), message, "remove what follows")
            self.broken = True
        return value

    def skip(self, path: Path, comments: list[tuple[int, int]] | None = None) -> str:
        """Pass over blanks and comments; return the next character, empty at the end.

        Comments that can be kept as a key are only collected.
        """
        while True:
            match = _BLANK.match(self.text, self.at)
            assert match is not None
            self.at = match.end()
            comment = _COMMENT.match(self.text, self.at)
            if comment is None:
                return self.text[self.at : self.at + 1]
            self.at = comment.end()
            if comments is not None:
                comments.append(comment.span())
                continue
            fix = self.edit("remove the comment", *self._with_blanks(*comment.span()), "")
            self.fault(*comment.span(), path, _NO_COMMENTS, _INSTEAD, fix, "comments")

    def _with_blanks(self, start: int, end: int) -> tuple[int, int]:
        """Return a comment's stretch with the blanks before it, and its line if that is all."""
        before = len(self.text[:start].rstrip(" \t"))
        rest = self.text[end : end + 2]
        alone = before == 0 or self.text[before - 1] in "\r\n"
        if rest == "" or rest[0] in "\r\n":
            start = before
            if alone and rest:
                end += 2 if rest == "\r\n" else 1
        return start, end

    def value(self, path: Path, depth: int) -> Any:
        if depth > _DEEPEST:
            self.stop(self.at, path, "the text is nested too deeply")
        char = self.skip(path)
        start = self.at
        if char == "":
            self.too_early(path)
        if char in "{[":
            self.at += 1
            items = self.members(path, depth) if char == "{" else self.items(path, depth)
            self.end = self.at
            self.document.values[path] = self.document.lines_of.span(start, self.at)
            return items
        if char in "}],:":
            self.fault(start, start + 1, path, "a value is missing here")
            self.broken = True
            return None
        found = self.quoted(path)
        result = self.word(path) if found is None else found
        self.end = self.at
        self.document.values[path] = self.document.lines_of.span(start, self.at)
        return check_scalar(self.document, result, path)

    def members(self, path: Path, depth: int) -> dict[str, Any]:
        """Read an object behind its opening bracket."""
        result: dict[str, Any] = {}
        starts: dict[str, tuple[int, int]] = {}
        notes: list[tuple[int, int, str]] = []
        try:
            self.all_members(path, depth, result, starts, notes)
        finally:
            self.keep_comments(path, notes, set(result))
        return result

    def all_members(
        self,
        path: Path,
        depth: int,
        result: dict[str, Any],
        starts: dict[str, tuple[int, int]],
        notes: list[tuple[int, int, str]],
    ) -> None:
        """Read members up to the closing bracket."""
        where = path
        while not self.closes("}", where, first=not starts, notes=notes):
            start = self.at
            key = self.key(path)
            where = (*path, key)
            if key in result:
                self.duplicate(where, starts[key], start)
            self.document.keys[where] = self.document.lines_of.span(start, self.at)
            if self.skip(where) == ":":
                self.at += 1
            elif self.text[self.at : self.at + 1] in ("", ",", "}", "]"):
                self.fault(start, self.end, where, "a colon and a value are missing after the key")
                self.broken = True
            else:
                fix = self.edit("insert a colon", self.end, self.end, ":")
                self.fault(start, self.end, where, "a colon is missing after the key", None, fix)
            result[key] = self.value(where, depth + 1)
            starts[key] = (start, self.at)

    def keep_comments(self, path: Path, notes: list[tuple[int, int, str]], taken: set[str]) -> None:
        """Report the comments of an object; the fix makes keys of them that begin with `_`."""
        number = 1
        for start, end, form in notes:
            comment = _MARKS.sub("", self.text[start:end]).strip()
            fix = self.edit("remove the comment", *self._with_blanks(start, end), "")
            if comment:
                while (key := f"_comment{number if number > 1 else ''}") in taken:
                    number += 1
                taken.add(key)
                member = f'"{key}": {json.dumps(comment, ensure_ascii=False)}'
                fix = self.edit("make it a key", start, end, form.replace("{}", member))
            self.fault(start, end, path, _NO_COMMENTS, _INSTEAD, fix, "comments")

    def items(self, path: Path, depth: int) -> list[Any]:
        """Read a list behind its opening bracket."""
        result: list[Any] = []
        where = path
        while not self.closes("]", where, first=not result):
            where = (*path, len(result))
            result.append(self.value(where, depth + 1))
        return result

    def closes(
        self,
        bracket: str,
        path: Path,
        *,
        first: bool,
        notes: list[tuple[int, int, str]] | None = None,
    ) -> bool:
        """Read the comma before a member, or the closing bracket; return whether it was that.

        Comments of an object are noted with how a member in their place is written.
        """
        comma: int | None = None
        before: list[tuple[int, int]] = []
        after: list[tuple[int, int]] = []
        while True:
            char = self.skip(path, None if notes is None else before if comma is None else after)
            if char == "":
                self.too_early(path)
            if char == ",":
                if first or comma is not None:
                    fix = self.edit("remove the comma", self.at, self.at + 1, "")
                    self.fault(self.at, self.at + 1, path, "a comma too many", None, fix)
                else:
                    comma = self.at
                self.at += 1
                continue
            if char not in "]}":
                break
            if comma is not None:
                fix = self.edit("remove the comma", comma, comma + 1, "")
                message = "a comma before the closing bracket"
                self.fault(comma, comma + 1, path, message, "remove the comma", fix)
            if char != bracket:
                self.stop(self.at, path, f"`{char}` where `{bracket}` should close")
            if notes is not None:
                notes += [
                    (*span, "{}" if first and index == 0 else ", {}")
                    for index, span in enumerate([*before, *after])
                ]
            self.at += 1
            return True
        if notes is not None:
            behind = "{}," if first else ", {}"
            notes += [(*span, behind) for span in before] + [(*span, "{},") for span in after]
        if comma is None and not first:
            fix = self.edit("insert a comma", self.end, self.end, ",")
            self.fault(self.at, self.at + 1, path, "a comma is missing before this", None, fix)
        return False

    def key(self, path: Path) -> str:
        start = self.at
        key = self.quoted(path)
        if key is None:
            match = _WORD.match(self.text, start)
            if match is None:
                self.stop(start, path, "a key in double quotes is missing here")
            assert match is not None
            self.at = match.end()
            key = match[0]
            self.quotes_missing(start, path, "a key without double quotes")
        self.end = self.at
        return str(check_scalar(self.document, key, (*path, key)))

    def quoted(self, path: Path) -> str | None:
        """Read a text in any quotes; None if there is none here."""
        start = self.at
        char = self.text[start]
        match = _STRING.match(self.text, start)
        if match is not None:
            self.at = match.end()
            return self.decoded(match[0], start, path)
        if char == '"':
            self.stop(start, path, "a text that begins here has no closing quote")
        kinds = ((_SINGLE, "single"), (_TYPOGRAPHIC, "typographic"))
        for pattern, kind in kinds:
            match = pattern.match(self.text, start)
            if match is None:
                continue
            self.at = match.end()
            inner = match[1].replace("\\'", "'")
            written = json.dumps(inner, ensure_ascii=False)
            message, hint = f"{kind} quotes around a text", 'JSON wants double quotes: "..."'
            fix = self.edit("use double quotes", start, self.at, written)
            self.fault(start, self.at, path, message, hint, fix, f"{kind} quotes")
            return inner
        if char == "'" or char in _QUOTES:
            self.stop(start, path, "a text that begins here has no closing quote")
        return None

    def decoded(self, written: str, start: int, path: Path) -> str:
        try:
            text: str = json.loads(written)
        except ValueError:
            message, hint = "a backslash that escapes nothing", r"write `\\` for a backslash"
            if any(ord(char) < 32 for char in written):
                message, hint = "a tab or control character within a text", r"write `\t` for a tab"
            right = _BAD_ESCAPE.sub(lambda m: m[0] if m[1] else "\\\\", written)
            right = re.sub(r"[\x00-\x1f]", lambda m: json.dumps(m[0])[1:-1], right)
            try:
                text = json.loads(right)
            except ValueError:  # such as half of \uXXXX
                self.fault(start, self.at, path, message, hint)
                self.broken = True
                return written
            fix = self.edit("escape it", start, self.at, right)
            self.fault(start, self.at, path, message, hint, fix)
        return text

    def word(self, path: Path) -> Any:
        """Read a number, true, false, null, or what stands in their place."""
        start = self.at
        match = _WORD.match(self.text, start)
        if match is None:
            self.stop(start, path, f"`{self.text[start]}` is out of place")
        assert match is not None
        self.at, written = match.end(), match[0]
        if written in ("true", "false", "null"):
            return _WORDS[written]
        if _NUMBER.fullmatch(written):
            try:
                return float(written) if set(written) & set(".eE") else int(written)
            except ValueError:  # thousands of digits
                return math.inf
        lowered = written.lower()
        if lowered in _WORDS:
            value = _WORDS[lowered]
            message = f"`{written}` is Python, not JSON"
            self.wrong(start, path, message, json.dumps(value), "Python")
            return value
        if lowered.lstrip("+-") in _NOT_FINITE:
            sign = -1 if written[0] == "-" else 1
            return sign * _NOT_FINITE[lowered.lstrip("+-")]
        try:
            number = float(written)
        except ValueError:
            self.quotes_missing(start, path, "a text without double quotes")
            return written
        right = int(number) if re.fullmatch(r"[+-]?[\d_]+", written) else number
        shown = json.dumps(right) if math.isfinite(number) else None
        self.wrong(start, path, f"`{written}` is not a number of JSON", shown)
        return right

    def wrong(
        self, start: int, path: Path, message: str, right: str | None, habit: str | None = None
    ) -> None:
        fix = None if right is None else self.edit(f"write {right}", start, self.at, right)
        hint = None if right is None else f"write `{right}`"
        self.fault(start, self.at, path, message, hint, fix, habit)

    def quotes_missing(self, start: int, path: Path, message: str) -> None:
        written = self.text[start : self.at]
        safe = _NAME.fullmatch(written) is not None
        fix = self.edit("add the quotes", start, self.at, json.dumps(written), safe=safe)
        self.fault(start, self.at, path, message, 'JSON wants double quotes: "..."', fix, message)
        self.broken |= not safe

    def duplicate(self, path: Path, first: tuple[int, int], start: int) -> None:
        lines = self.document.lines_of
        here, before = lines.span(start, self.at), lines.span(*first)
        message = f"`{path[-1]}` appears twice; the first (line {before.line}) is dropped silently"
        following = self.text.find(",", first[1])
        fix = None
        if following != -1 and not self.text[first[1] : following].strip():
            blank = _BLANK.match(self.text, following + 1)
            assert blank is not None
            fix = self.edit("remove the first", first[0], blank.end(), "", safe=False)
        related = (Related("the first one", before),)
        finding = Finding(
            "ZOO004", path, message, "keep one of them", span=here, fix=fix, related=related
        )
        self.document.findings.append(finding)
        for known in [key for key in self.document.values if key[: len(path)] == path]:
            del self.document.values[known]
            self.document.keys.pop(known, None)

    def too_early(self, path: Path) -> None:
        end = max(len(self.text.rstrip()), 1)
        hint = "a value or a closing bracket is missing"
        self.stop(end - 1, path, "the text ends too early", hint)

    def stop(self, start: int, path: Path, message: str, hint: str | None = None) -> None:
        self.fault(start, start + 1, path, message, hint)
        raise _StopReading

    def edit(self, title: str, start: int, end: int, replacement: str, *, safe: bool = True) -> Fix:
        span = self.document.lines_of.span(start, end)
        return Fix(title, (Edit(span, replacement),), safe)

    def fault(
        self,
        start: int,
        end: int,
        path: Path,
        message: str,
        hint: str | None = None,
        fix: Fix | None = None,
        habit: str | None = None,
    ) -> None:
        """Note a fault; a habit is the name of what people do all over a file if at all."""
        span = self.document.lines_of.span(start, max(end, start + 1))
        group = None if habit is None else Group(habit, "file")
        finding = Finding("ZOO001", path, message, hint, span=span, fix=fix, group=group)
        self.document.findings.append(finding)
        self.slips += habit is None
        if self.slips > _MOST_FAULTS or len(self.document.findings) > _MOST_HABITS:
            raise _StopReading
