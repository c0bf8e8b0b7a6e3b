"""The `zoo` command line: one file a group of commands."""
