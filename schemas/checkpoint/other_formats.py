"""What a file is when it is no zip archive."""

from schemas.errors import CheckpointError

_DOWNLOAD = "the download failed; get the file again"


def other_format(name: str, size: int, beginning: bytes) -> CheckpointError:
    """Return the error that says what a file is instead of a checkpoint.

    Args:
        name: What messages call it.
        size: Its bytes in all.
        beginning: Its first few hundred bytes.
    """
    return CheckpointError(_what_it_is(name, size, beginning), hint=_hint(beginning))


def _what_it_is(name: str, size: int, beginning: bytes) -> str:
    text = beginning.lstrip().lower()
    if not beginning:
        return f"{name} is empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"{name} is a web page ({size} bytes), not a checkpoint"
    if text.startswith(b"version https://git-lfs"):
        return f"{name} is a pointer of Git LFS ({size} bytes), not the file itself"
    if text.startswith((b"{", b"[")):
        return f"{name} is a JSON text, not a checkpoint"
    if beginning.startswith(b"\x89HDF"):
        return f"{name} is an HDF5 file (a .dp or .hlo model?), not a PyTorch checkpoint"
    if beginning.startswith(b"\x80\x02"):
        return f"{name} is a pickle, perhaps a checkpoint of PyTorch before 1.6"
    return f"{name} is not a PyTorch checkpoint"


def _hint(beginning: bytes) -> str:
    text = beginning.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "fetch it with `git lfs pull`"
    if not text or text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return _DOWNLOAD
    return "use a .pt file that deepmd-kit or `zoo train` wrote"
