"""What a TorchScript file (`.pth`) holds, read as data: attributes and tensors, no code.

The archive of a program has a pickle of its objects like a checkpoint's, with objects of
TorchScript classes in it. TorchScript calls methods of theirs when it opens the file; this reader
only notes which attributes each object has. Of the code it reads which names a class calls its
parameters and buffers, as text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from schemas.base.errors import CheckpointError
from schemas.checkpoint.archive import (
    ArchiveEntry,
    LocalFile,
    RandomAccess,
    check_contents,
    content_of,
    pieces,
)
from schemas.checkpoint.header import (
    USE_FROZEN,
    TensorEntry,
    check_storages,
    describe,
    open_archive,
    refuse_expansion,
    tensor_entries,
)
from schemas.checkpoint.pickle_values import CALLS, Tensor
from schemas.checkpoint.unpickler import Allowed

_CLASS = re.compile(r"__torch__(\.[A-Za-z_]\w*)+")
_MEMBERS = re.compile(
    r"class (\w+)\(Module\):\n  __parameters__ = \[(.*?)\]\n  __buffers__ = \[(.*?)\]"
)
_DEEPEST = 50
_MOST_OBJECTS = 100_000
_MOST_CODE = 16 * 2**20
_MOST_EXTRA = 16 * 2**20
_LISTS = ("intlist", "doublelist", "boollist", "tensorlist")


class ScriptObject:
    """An object of a TorchScript class: one subclass stands for each class of the file.

    Attributes:
        cls: The class's full name.
        attributes: By name; tensors, plain values and further objects.
    """

    __slots__ = ("attributes",)
    cls = ""

    def __new__(cls) -> Self:
        """Begin an object; a pickle that gives arguments fails."""
        made = super().__new__(cls)
        made.attributes = {}
        return made

    def __setstate__(self, state: Any) -> None:
        """Give the object its attributes.

        Raises:
            TypeError: They have no names.
        """
        if type(state) is not dict:
            raise TypeError(f"`__setstate__` of `{self.cls}` is not callable")
        self.attributes: dict[Any, Any] = state


@lru_cache(maxsize=1024)
def _class_of(full: str) -> type | None:
    """Return what stands for a class of TorchScript; None for other names."""
    if not _CLASS.fullmatch(full):
        return None
    return type("ScriptObject", (ScriptObject,), {"__slots__": (), "cls": full})


SCRIPT = Allowed(
    CALLS
    | {
        "torch.jit._pickle.restore_type_tag": lambda value, _: value,
        **{f"torch.jit._pickle.build_{kind}": lambda values: values for kind in _LISTS},
    },
    _class_of,
)
"""What the pickle of a TorchScript module may say."""


@dataclass(frozen=True, slots=True)
class Script:
    """What a TorchScript file holds.

    Args:
        name: The file's name.
        attributes: Plain attributes of its module, such as `model_def_script`.
        tensors: Parameters and buffers by name, as `state_dict` has them.
        storages: Numbers of the tensors, by the key of their storage.
        extra: Texts beside the module by file name.
    """

    name: str
    attributes: dict[str, Any]
    tensors: dict[str, TensorEntry]
    storages: dict[str, bytes]
    extra: dict[str, str]


def read_script(path: Any, extra_files: tuple[str, ...] = ()) -> Script:
    """Read a TorchScript file; no code in it is run, and torch is not asked.

    Args:
        path: The file.
        extra_files: Names of texts in its folder `extra` that are wanted, if they are there.

    Raises:
        CheckpointError: It is damaged, or no program of PyTorch.
        OSError: It cannot be read.
    """
    with LocalFile(path) as source:
        archive = open_archive(source, program=True)
        check_contents(source, archive.entries.values())
        module = describe(source, archive, SCRIPT)
        if not isinstance(module, ScriptObject):
            raise CheckpointError(f"{source.name} is no module of TorchScript", hint=USE_FROZEN)
        entries, folder, stored = archive.entries, archive.folder, archive.storages
        state = dict(_tensors(source, module, _Members(source, entries, folder)))
        check_storages(source, state, stored)
        tensors = list(tensor_entries(state))
        refuse_expansion(source, tensors, stored)
        return Script(
            source.name,
            {
                key: value
                for key, value in module.attributes.items()
                if isinstance(value, str | int | float | bool | None)
            },
            {tensor.name: tensor for tensor in tensors},
            {
                key: b"".join(pieces(source, stored[key]))
                for key in {tensor.storage for tensor in tensors}
            },
            {
                name: content_of(source, entry, _MOST_EXTRA).decode("utf-8", "replace")
                for name in extra_files
                if (entry := entries.get(f"{folder}/extra/{name}")) is not None
            },
        )


class _Members:
    """Which attributes of a class are parameters and buffers, by the text of its code."""

    def __init__(self, source: RandomAccess, entries: dict[str, ArchiveEntry], folder: str) -> None:
        self._source, self._entries, self._folder = source, entries, folder
        self._left = _MOST_CODE
        self._known: dict[str, dict[str, frozenset[str]]] = {}

    def of(self, cls: str) -> frozenset[str]:
        """Return the names; empty where the code does not say."""
        place, _, name = cls.rpartition(".")
        if place not in self._known:
            file = f"{self._folder}/code/{place.replace('.', '/')}.py"
            entry = self._entries.get(file)
            text = "" if entry is None else self._text(entry)
            self._known[place] = {
                found[1]: frozenset(re.findall(r'"([^"]+)"', found[2] + found[3]))
                for found in _MEMBERS.finditer(text)
            }
        return self._known[place].get(name, frozenset())

    def _text(self, entry: ArchiveEntry) -> str:
        content = content_of(self._source, entry, self._left)
        self._left -= len(content)
        return content.decode("utf-8", "replace")


def _tensors(
    source: RandomAccess, module: ScriptObject, members: _Members
) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of a module and of those within it."""
    parts: list[tuple[str, ScriptObject, int]] = [("", module, 0)]
    count = 0
    while parts:
        prefix, part, depth = parts.pop()
        count += 1
        if depth > _DEEPEST or count > _MOST_OBJECTS:
            raise CheckpointError(
                f"{source.name} describes no model: its modules contain one another without end",
                hint="no program writes such a file; use one from a source that you trust",
            )
        named = members.of(part.cls)
        below = []
        for key, value in part.attributes.items():
            if isinstance(value, Tensor) and key in named:
                yield f"{prefix}{key}", value
            elif isinstance(value, ScriptObject):
                below.append((f"{prefix}{key}.", value, depth + 1))
        parts.extend(reversed(below))
