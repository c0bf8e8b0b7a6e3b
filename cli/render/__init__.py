"""Diagnostics for people and programs: full, concise, GitHub annotations, SARIF, edits."""

from cli.render.text import render, show_diagnostics, summary

__all__ = ["render", "show_diagnostics", "summary"]
