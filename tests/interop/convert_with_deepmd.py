"""Convert models as `dp convert-backend` does; runs in deepmd-kit's environment.

convert_with_deepmd.py IN OUT [IN OUT ...]
"""

import sys

from deepmd.entrypoints.convert_backend import convert_backend


def main() -> None:
    """Convert one pair of files after the other."""
    files = sys.argv[1:]
    for source, target in zip(files[::2], files[1::2], strict=True):
        convert_backend(INPUT=source, OUTPUT=target)
    sys.stdout.write("\n{}\n")


if __name__ == "__main__":
    main()
