"""The dictionary of a model inside `.pt2` and `.pte` archives of deepmd-kit (interop-spec 9)."""

import json
import zipfile
from pathlib import Path
from typing import Any

from dpa2.convert.yaml_file import with_arrays
from schemas.errors import CheckpointError

_MEMBER = "extra/model.json"
_MOST_BYTES = 4 << 30


def read_archive(path: Path) -> dict[str, Any]:
    """Read the dictionary of a model; the compiled code beside it is not touched.

    Raises:
        CheckpointError: If the archive is damaged or holds no dictionary.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [item for item in archive.infolist() if item.filename.endswith(_MEMBER)]
            if len(members) != 1:
                raise CheckpointError(
                    f"{path} is an archive without the weights of a deep potential",
                    hint="give the checkpoint it was made from",
                )
            if members[0].file_size > min(_MOST_BYTES, 1000 * path.stat().st_size):
                raise CheckpointError(
                    f"{path} claims to hold more than it can", hint="do not trust this file"
                )
            document = json.loads(archive.read(members[0]))
        found: dict[str, Any] = with_arrays(dict(document))
    except (zipfile.BadZipFile, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a model: {error}",
            hint="the download or the copy was cut short; fetch it again",
        ) from error
    return found
