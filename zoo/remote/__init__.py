"""Checkpoints on the network, read in pieces: what they say, and one branch of them."""

from zoo.remote.branch_pull import (
    BranchCost,
    BranchPull,
    branch_cost,
    pull_branch,
    read_remote_header,
)
from zoo.remote.remote_file import ChangedError, NoRangeError, RangeFile, open_remote

__all__ = [
    "BranchCost",
    "BranchPull",
    "ChangedError",
    "NoRangeError",
    "RangeFile",
    "branch_cost",
    "open_remote",
    "pull_branch",
    "read_remote_header",
]
