"""Turn an exception into one sentence, a hint and an exit code."""

import json
import os
import sys

from schemas.base.errors import ZooError

EXIT_INTERRUPTED = 130
EXIT_UNREAD = 1
"""As click and rich, which notice it first where they print."""


def report(error: BaseException, *, json_mode: bool) -> int:
    """Tell the user what went wrong and return the exit code.

    Silence where the reader of our output has gone, as `head` users expect.

    With `ZOO_DEBUG=1` the exception is raised again, so that its traceback can be read.
    """
    if os.environ.get("ZOO_DEBUG") == "1" and not isinstance(error, KeyboardInterrupt):
        raise error
    from schemas.base.terminal import lasting_output

    with lasting_output():
        return _report(error, json_mode=json_mode)


def _report(error: BaseException, *, json_mode: bool) -> int:
    if isinstance(error, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED
    kind = type(error).__name__
    hint: str | None
    code = 2
    if isinstance(error, ZooError):
        message, hint, code = error.message, error.hint, error.exit_code
    elif isinstance(error, BrokenPipeError):
        return EXIT_UNREAD
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        message, hint = f"{where}{error.strerror or error}", None
    elif (strange := _strange_name(error)) is not None:
        message, hint = strange
    elif isinstance(error, RecursionError):
        message = "a file is nested more deeply than any that a program writes"
        hint = "look at it: it may be damaged, or another file than was meant"
    elif isinstance(error, (MemoryError,)) or "out of memory" in str(error).lower():
        message = "out of memory"
        hint = "use a smaller batch_size, fewer frames at a time, or a device with more memory"
    elif isinstance(error, ModuleNotFoundError):
        message = f"the package `{error.name}` is needed for this and is not installed"
        hint = f"install it: pip install {error.name}"
    else:
        message = f"unexpected {kind}: {error}"
        hint = "this is a bug of zoo; run again with ZOO_DEBUG=1 and report the traceback"
    if json_mode:
        document = {"ok": False, "error": {"kind": kind, "message": message, "hint": hint}}
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stderr.write(f"error: {message}\n")
    if hint:
        sys.stderr.write(f"  hint: {hint}\n")
    return code


def _strange_name(error: BaseException) -> tuple[str, str] | None:
    """Return what is wrong with the name of a file, message and hint, if that is what failed."""
    if isinstance(error, UnicodeEncodeError) and "surrogate" in error.reason:
        at = max(0, error.start - 40)
        part = str(error.object)[at : error.end + 40].encode("utf-8", "backslashreplace").decode()
        return f"a file name has bytes that are no UTF-8 text: {part}", "rename the file"
    if isinstance(error, ValueError) and "null byte" in str(error):
        return "a file name has a NUL character in it", "look at the names in the input"
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
        return str(error), "the links lead back to themselves; name the file itself"
    return None
