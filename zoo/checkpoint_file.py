"""What a checkpoint holds, read without torch: from the disk here, over a network elsewhere."""

from schemas.checkpoint.archive import ArchiveEntry, locate
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH as DEFAULT_BRANCH
from schemas.checkpoint.header import CheckpointHeader, TensorEntry, read_header

__all__ = [
    "DEFAULT_BRANCH",
    "ArchiveEntry",
    "CheckpointHeader",
    "TensorEntry",
    "locate",
    "read_header",
]
