"""`dpa2.ase.Calculator`, the calculator for ASE; importing this imports ASE and torch."""

from dpa2.interfaces.ase import Calculator

__all__ = ["Calculator"]
