"""Rules between values: one function a rule, one code a rule, a file for each subject."""

from schemas.rules.run import run_rules

__all__ = ["run_rules"]
