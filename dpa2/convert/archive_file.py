"""The dictionary of a model inside `.pt2` and `.pte` archives of deepmd-kit.

docs/deepmd-format.md, 9.
"""

import json
from pathlib import Path
from typing import Any

from dpa2.convert.yaml_file import with_arrays
from schemas.checkpoint.archive import content_of, read_directory
from schemas.checkpoint.random_access import LocalFile
from schemas.errors import CheckpointError

_MEMBER = "extra/model.json"
_MOST_BYTES = 64 << 20
_MOST_EXPANSION = 4


def read_archive(path: Path) -> dict[str, Any]:
    """Read the dictionary of a model; the compiled code beside it is not touched.

    Raises:
        CheckpointError: If the archive is damaged or holds no dictionary.
    """
    try:
        with LocalFile(path) as source:
            entries = read_directory(source, program=True)
            members = [entry for name, entry in entries.items() if name.endswith(_MEMBER)]
            if len(members) != 1:
                raise CheckpointError(
                    f"{path} is an archive without the weights of a deep potential",
                    hint="give the checkpoint it was made from",
                )
            most = _MOST_BYTES + _MOST_EXPANSION * source.size
            document = json.loads(content_of(source, members[0], most))
        found: dict[str, Any] = with_arrays(dict(document))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a model: {error}",
            hint="the download or the copy was cut short; fetch it again",
        ) from error
    return found
