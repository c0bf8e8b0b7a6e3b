"""Names that a shell completes: those of the registries on this machine, never of the network."""

from collections.abc import Iterator


def complete_model(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the names that go on from what was typed, each with what the model is."""
    from schemas.errors import ZooError
    from zoo.known_models import known_models

    try:
        models = known_models().models
    except ZooError:
        return  # a shell waits for names, not for an explanation
    start = incomplete.lower()
    for known in models:
        for name in dict.fromkeys((*known.model.names, known.model.reference)):
            # `NAME@` lists revisions; without it a name that has several is enough
            if name.lower().startswith(start) and (("@" in name) == ("@" in incomplete)):
                yield name, known.model.description


def complete_registry(incomplete: str) -> Iterator[str]:
    """Yield the names of the user's registries."""
    from schemas.errors import ZooError
    from zoo.registries import user_registries

    try:
        names = [registry.name for registry in user_registries()]
    except ZooError:
        return
    yield from (name for name in names if name.startswith(incomplete))
