"""Models evaluated, tested against labels and compared."""
