"""The `zoo` command line: one file a group of commands."""

VERSION = "0.1.0"
"""A constant: reading package metadata would cost 55 ms at every start."""
