"""Checkpoint files, read safely and written atomically."""
