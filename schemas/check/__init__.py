"""Checks of an input file: every fault at once, with its place in the text."""
