"""JSON text as a tree that keeps every blank, so that members can move and the rest stays as is."""

from dataclasses import dataclass
from typing import Any

from schemas.diagnostics import Path
from schemas.document_model import Document

_INDENT = "  "


@dataclass(slots=True)
class Member:
    """A key with its value.

    Args:
        lead: The blanks before the key.
        key: The key as written, with its quotes.
        middle: The colon and the blanks around it.
        value: An object, or the text of any other value.
    """

    lead: str
    key: str
    middle: str
    value: "RawObject | str"

    def text(self) -> str:
        """Return the member as written."""
        inner = self.value if isinstance(self.value, str) else self.value.text()
        return f"{self.lead}{self.key}{self.middle}{inner}"


@dataclass(slots=True)
class RawObject:
    """An object; `tail` are the blanks before its closing bracket."""

    members: dict[str, Member]
    tail: str

    def text(self) -> str:
        """Return the object as written."""
        return "{" + ",".join(member.text() for member in self.members.values()) + self.tail + "}"

    def take(self, path: Path) -> Member | None:
        """Remove the member at a path and return it; None if there is none."""
        holder = self.object_at(path[:-1])
        return None if holder is None else holder.members.pop(str(path[-1]), None)

    def object_at(self, path: Path) -> "RawObject | None":
        """Return the object at a path; None if there is none."""
        value: RawObject | str = self
        for part in path:
            member = value.members.get(str(part)) if isinstance(value, RawObject) else None
            if member is None:
                return None
            value = member.value
        return value if isinstance(value, RawObject) else None

    def put(self, path: Path, value: "RawObject | str") -> bool:
        """Write a value at a path, in the style of its neighbours; sections are made as needed.

        Returns:
            Whether it was written; it is not if the key is there, or if a parent is no object.
        """
        first = next(iter(self.members.values()), None)
        lead = first.lead if first is not None else "\n"
        return _put(self, path, value, lead, lead.rpartition("\n")[2] or _INDENT)


def _put(target: RawObject, path: Path, value: RawObject | str, lead: str, unit: str) -> bool:
    """Do what `RawObject.put` says; `lead` serves an empty object, `unit` is one indentation."""
    key = str(path[0])
    last = next(reversed(target.members.values()), None)
    if last is not None:
        lead = last.lead if "\n" in last.lead else " "
    elif "\n" in lead and "\n" not in target.tail:
        target.tail = lead.removesuffix(unit)
    middle = ": " if last is None else last.middle
    if len(path) == 1 and key in target.members:
        return False
    if key not in target.members:
        new = value if len(path) == 1 else RawObject({}, "")
        target.members[key] = Member(lead, f'"{key}"', middle, new)
    if len(path) == 1:
        return True
    inner = target.members[key].value
    if isinstance(inner, str):
        return False
    below = target.members[key].lead
    return _put(inner, path[1:], value, below + unit if "\n" in below else "", unit)


def parse_raw(document: Document) -> RawObject:
    """Return the tree of a JSON text in which there are no faults."""
    return _object(document, document.data or {}, ())


def _object(document: Document, data: dict[str, Any], path: Path) -> RawObject:
    lines = document.lines_of
    start, end = lines.offsets(document.values[path])
    at = start + 1
    members: dict[str, Member] = {}
    for key, value in data.items():
        below = (*path, key)
        key_start, key_end = lines.offsets(document.keys[below])
        value_start, value_end = lines.offsets(document.values[below])
        inner: RawObject | str = lines.text[value_start:value_end]
        if isinstance(value, dict):
            inner = _object(document, value, below)
        gap = lines.text[at:key_start]
        lead = gap.partition(",")[2] if "," in gap else gap
        middle = lines.text[key_end:value_start]
        members[key] = Member(lead, lines.text[key_start:key_end], middle, inner)
        at = value_end
    return RawObject(members, lines.text[at : end - 1])
