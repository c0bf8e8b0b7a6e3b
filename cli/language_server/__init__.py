"""A language server for input files: diagnostics, hover, quick fixes."""
