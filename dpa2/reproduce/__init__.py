"""Runs held fast, and done again."""
