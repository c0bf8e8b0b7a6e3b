"""How facts about registered models are written, in tables and in JSON."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schemas.registry import RegisteredModel, Source
    from zoo.known_models import KnownModel
    from zoo.local_copies import LocalCopy

_UNIT = 1000.0


def shown_size(num_bytes: int | None) -> str:
    """Return a number of bytes as people read it; `?` where nobody knows it."""
    if num_bytes is None:
        return "?"
    amount = float(num_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < _UNIT:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _UNIT
    return f"{amount:.2f} GB"


def num_branches(model: "RegisteredModel") -> int | None:
    """Return how many branches a model is known to have; None where only its file says it."""
    return model.num_branches or len(model.branches) or None


def known_size(known: "KnownModel", local: "LocalCopy | None") -> int | None:
    """Return the bytes of a model's file, as registered or as it lies here."""
    if known.model.file.size is not None or local is None:
        return known.model.file.size
    return local.path.stat().st_size


def document(known: "KnownModel", local: "LocalCopy | None") -> dict[str, Any]:
    """Return what `--json` says about a model in a list."""
    model = known.model
    return {
        "name": model.name,
        "reference": model.reference,
        "aliases": model.aliases,
        "revision": model.revision,
        "description": model.description,
        "family": model.family,
        "trainable": model.trainable,
        "elements": model.elements,
        "num_branches": num_branches(model),
        "branches": [branch.name for branch in model.branches],
        "size": known_size(known, local),
        "sha256": model.file.sha256,
        "where": local.where if local else "remote",
        "path": str(local.path) if local else None,
        "registry": known.registry,
        "shadowed_by": known.shadowed_by,
    }


def shown_source(source: "Source") -> str:
    """Return a source in a line, in the words that a person could give as a reference."""
    match source.kind:
        case "bundled":
            return "comes with the program"
        case "huggingface":
            at = "" if source.revision == "main" else f"@{source.revision}"
            via = f" (through {source.endpoint})" if source.endpoint else ""
            return f"hf://{source.repo}{at}/{source.path}{via}"
        case "modelscope":
            at = "" if source.revision == "master" else f"@{source.revision}"
            return f"ms://{source.repo}{at}/{source.path}"
        case "file":
            return f"{source.path}, beside the registry"
        case _:
            return source.url
