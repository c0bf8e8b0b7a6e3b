"""What each key of a section is: the docstrings below the attributes, read when they are asked for.

pydantic could read them as well, but does so whenever a class is defined, which takes a tenth of
the time of `zoo validate`.
"""

import ast
import inspect
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pydantic import BaseModel


@cache
def descriptions(section: type[BaseModel]) -> dict[str, str]:
    """Return the docstring of every key of a section, inherited ones too."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= _own(base)
    return found


@cache
def _own(section: type[BaseModel]) -> dict[str, str]:
    tree = _tree(inspect.getsourcefile(section) or "")
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == section.__name__:
            return dict(_documented(node))
    return {}


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text(encoding="utf-8"))


def _documented(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield the attributes of a class that a text follows, and these texts."""
    for item, following in itertools.pairwise(node.body):
        match item, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=text)):
                if isinstance(text, str):
                    yield name, inspect.cleandoc(text)
