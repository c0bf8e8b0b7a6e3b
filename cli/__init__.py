"""The `zoo` command line: one file a command, no logic."""
