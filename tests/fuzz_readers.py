"""Mutated model files and data sets, thousands of them: each is read or refused in words.

`python -m tests.fuzz_readers 10000` reads so many files in all and prints a table. The name of a
kind and a number make a file again: `python -m tests.fuzz_readers KIND NUMBER`.
"""

import io
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cli.convert import register_safetensors
from dpa2.data.lmdb import _environment
from dpa2.data.systems import open_systems
from dpa2.evaluate.learning_curve import read_learning_curve
from dpa2.formats.conversion import convert
from dpa2.formats.dictionary import to_dictionary
from dpa2.formats.dictionary_files import read_hdf5, to_json, write_hdf5
from dpa2.formats.facts import facts_of
from dpa2.formats.pt2 import read_package
from dpa2.formats.table import format_of
from schemas.base.errors import ZooError
from schemas.check.input_file import check_file
from schemas.checkpoint.header import read_header
from tests.containers import to_hdf5, write_lmdb
from tests.evaluate.conftest import GOLDEN, write_system
from tests.fuzzing import peak
from zoo.registry import read_registry

SMALL = GOLDEN / "h2_without_pair_attention" / "model.pt"
HALF = 0.5
SIGNS = (b"[", b"{", b'"', b"\n", b"\0", b"&a ", b"*a ", b": ")
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**62, 2**64 - 1)


@dataclass
class Kind:
    """A kind of file.

    Attributes:
        make: Writes a good one to a path.
        read: Reads one.
        suffix: How its name ends.
        inside: For a folder: which file in it is mutated.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], object]
    suffix: str
    inside: str = ""


def model(path: Path) -> None:
    """Write a model in the format of its suffix."""
    register_safetensors()
    convert(SMALL, path)


def hlo(path: Path) -> None:
    """Write a model with a program in it that is none."""
    convert(SMALL, path.with_suffix(".dp"))
    tree = read_hdf5(path.with_suffix(".dp"))
    variables = tree.get("@variables", {}) | {"stablehlo": np.frombuffer(b"program", "V1")}
    write_hdf5(path, tree | {"@variables": variables, "constants": {"rcut": 4.0}})


def compiled(path: Path) -> None:
    """Write an archive of a compiled model without a program."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/archive_version", "0")
        portable = format_of(SMALL).read(SMALL, None)
        tree = to_dictionary(portable.model, portable.model_params)
        about = facts_of(portable.model, portable.model_params)
        archive.writestr("model/extra/model.json", to_json(tree))
        archive.writestr("model/extra/metadata.json", about.model_dump_json())


def system(path: Path) -> None:
    """Write a system of the folder layout."""
    with np.load(GOLDEN / "small" / "expected.npz") as frames:
        write_system(path, dict(frames))


def hdf5_system(path: Path) -> None:
    """Write the same as HDF5, compressed."""
    system(path.with_suffix(".folder"))
    to_hdf5(path.with_suffix(".folder"), path, compression="gzip")


def lmdb_system(path: Path) -> None:
    """Write a few frames as an LMDB data base."""
    with np.load(GOLDEN / "small" / "expected.npz") as arrays:
        records = [
            {
                "coord": arrays["coord"][number].reshape(-1, 3),
                "cell": arrays["box"][number].reshape(3, 3),
                "atype": arrays["atype"].reshape(-1).astype(np.int64),
                "energy": arrays["energy"][number].reshape(-1),
            }
            for number in range(2)
        ]
    write_lmdb(path, records, frame_idx_fmt="012d", type_map=["O", "H"])


def read_all(path: Path) -> None:
    """Open a data set and read every frame of it."""
    _environment.cache_clear()  # the next file may have the inode of one that is gone
    for opened in open_systems([path], ["O", "H"]):
        opened.frames(np.arange(min(opened.num_frames, 50)))


def as_model(path: Path) -> object:
    """Read a model; what is no zip archive of PyTorch by its header, too."""
    return format_of(path).read(path, None)


def as_package(path: Path) -> None:
    """Read what a compiled model says of itself, and its weights."""
    try:
        read_package(path)
    finally:
        as_model(path)


def as_checkpoint(path: Path) -> None:
    """Read the header alone, then all."""
    read_header(path)
    as_model(path)


def text(content: str) -> Callable[[Path], None]:
    """Return what writes a text."""
    return lambda path: path.write_text(content, encoding="utf-8") and None  # type: ignore[func-returns-value]


CURVE = "# step rmse_e_val rmse_e_trn lr\n" + "".join(f"{k} 0.5 0.4 1e-3\n" for k in range(20))
INPUT = (GOLDEN / "small" / "input.json").read_text(encoding="utf-8")
REGISTRY = Path(__file__).parents[1] / "registry.yaml"
KINDS = {
    "pt": Kind(model, as_checkpoint, ".pt"),
    "pth": Kind(model, as_model, ".pth"),
    "dp": Kind(model, as_model, ".dp"),
    "yaml": Kind(model, as_model, ".yaml"),
    "hlo": Kind(hlo, as_model, ".hlo"),
    "safetensors": Kind(model, as_model, ".safetensors"),
    "pt2": Kind(compiled, as_package, ".pt2"),
    "npy": Kind(system, read_all, "", "set.000/coord.npy"),
    "energy": Kind(system, read_all, "", "set.000/energy.npy"),
    "type.raw": Kind(system, read_all, "", "type.raw"),
    "h5": Kind(hdf5_system, read_all, ".h5"),
    "lmdb": Kind(lmdb_system, read_all, ".lmdb", "data.mdb"),
    "lcurve": Kind(text(CURVE), read_learning_curve, ".out"),
    "input": Kind(text(INPUT), check_file, ".json"),
    "input yaml": Kind(text(INPUT), check_file, ".yaml"),
    "registry": Kind(text(REGISTRY.read_text(encoding="utf-8")), read_registry, ".yaml"),
}


def mutated(content: bytes, dice: random.Random) -> bytes:
    """Return a content with one to eight faults: bits, numbers, pieces lost, doubled, moved."""
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        if not changed:
            break
        place = dice.randrange(len(changed))
        length = min(dice.choice((1, 2, 4, 8, 16, 200)), len(changed) - place)
        fault = dice.randrange(8)
        if fault == 0:
            changed[place] ^= 1 << dice.randrange(8)
        elif fault == 1:
            changed[place : place + length] = dice.randbytes(length)
        elif fault == 2:
            width = dice.choice((1, 2, 4, 8))
            number = dice.choice(INTERESTING) % 256**width
            changed[place : place + width] = number.to_bytes(width, dice.choice(("little", "big")))
        elif fault == 3:
            del changed[place:]
        elif fault == 4:
            del changed[place : place + length]
        elif fault == 5:
            changed[place:place] = changed[place : place + length] * dice.choice((1, 2, 50))
        elif fault == 6:
            other = dice.randrange(len(changed))
            changed[place : place + length] = changed[other : other + length]
        else:
            changed[place:place] = dice.choice(SIGNS)
    return bytes(changed)


def mutated_entry(content: bytes, dice: random.Random) -> bytes:
    """Return an archive of which one entry is faulty and has the right checksum."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        items = old.infolist()
        small = [item for item in items if item.filename.endswith((".pkl", ".json", "byteorder"))]
        chosen = dice.choice(small or items).filename
        for item in items:
            inner = old.read(item)
            name = item.filename
            if name == chosen:
                inner = mutated(inner, dice)
            new.writestr(name, inner)
    return stream.getvalue()


@dataclass
class Outcome:
    """What became of files of a kind.

    Attributes:
        read: How many were read.
        refused: How many were refused in words.
        failures: Number and traceback of the others.
        grown: Bytes by which the peak of memory grew.
    """

    read: int = 0
    refused: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    grown: int = 0


def good_file(kind: Kind, folder: Path) -> Path:
    """Write a good file, and see that it is read."""
    path = folder / f"good{kind.suffix}"
    kind.make(path)
    return path


def try_one(name: str, number: int, good: Path, folder: Path) -> str | None:
    """Make and read a file; return how it was refused, None if it was read.

    Raises:
        Exception: Whatever is a fault of a reader.
    """
    kind = KINDS[name]
    dice = random.Random(f"{name} {number}")
    path = folder / f"x{number}{kind.suffix}"
    if good.is_dir():
        shutil.copytree(good, path)
    target = path / kind.inside if kind.inside else path
    source = good / kind.inside if kind.inside else good
    content = source.read_bytes()
    is_zip = content.startswith(b"PK")
    change = mutated_entry if is_zip and dice.random() < HALF else mutated
    target.write_bytes(change(content, dice))
    try:
        kind.read(path)
    except ZooError as error:
        return error.message
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return None


def fuzz(name: str, numbers: range) -> Outcome:
    """Try files of a kind in a process of its own, which may die of one."""
    outcome, left = Outcome(), numbers
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        folder = Path(place)
        good = good_file(KINDS[name], folder)
        while left:
            done = folder / "done.json"
            with warnings.catch_warnings():
                # Libraries with threads warn of forks; the child needs none of their threads.
                warnings.simplefilter("ignore")
                child = os.fork()
            if not child:
                _child(name, left, good, folder, done)
            _, status = os.waitpid(child, 0)
            part = json.loads(done.read_text(encoding="utf-8"))
            outcome.read += part["read"]
            outcome.refused += part["refused"]
            outcome.failures += [(k, words) for k, words in part["failures"]]
            outcome.grown = max(outcome.grown, part["grown"])
            if os.waitstatus_to_exitcode(status):
                words = f"the process died: {os.waitstatus_to_exitcode(status)}"
                outcome.failures.append((part["at"], words))
            left = range(part["at"] + 1, numbers.stop)
    return outcome


def _child(name: str, numbers: range, good: Path, folder: Path, done: Path) -> None:
    """Read files, writing down before each how far it came; never returns."""
    os.close(2)
    os.open(os.devnull, os.O_WRONLY)
    warnings.simplefilter("ignore")
    KINDS[name].read(good)
    before = peak()
    found: dict[str, object] = {"read": 0, "refused": 0, "failures": [], "grown": 0}
    counts, failures = {"read": 0, "refused": 0}, []
    for number in numbers:
        done.write_text(json.dumps(found | counts | {"failures": failures, "at": number}))
        try:
            words = try_one(name, number, good, folder)
        except BaseException:  # noqa: BLE001 - each is a finding
            failures.append((number, traceback.format_exc()[-1500:]))
        else:
            counts["read" if words is None else "refused"] += 1
    found |= counts | {"failures": failures, "at": numbers.stop - 1, "grown": peak() - before}
    done.write_text(json.dumps(found))
    os._exit(0)


def main() -> None:
    """Run the number of files given, or one of a kind."""
    if len(sys.argv) > 2:
        with tempfile.TemporaryDirectory() as place:
            good = good_file(KINDS[sys.argv[1]], Path(place))
            print(try_one(sys.argv[1], int(sys.argv[2]), good, Path(place)))  # noqa: T201
        return
    each = -(-int(sys.argv[1]) // len(KINDS))
    for name in KINDS:
        found = fuzz(name, range(each))
        line = f"{name:12} read {found.read:5} refused {found.refused:5}"
        print(f"{line} failed {len(found.failures):3} +{found.grown / 2**20:.0f} MB", flush=True)  # noqa: T201
        for number, words in found.failures[:3]:
            print(f"  {number}: {words}")  # noqa: T201


if __name__ == "__main__":
    main()
