"""Other programs' calculators over our model."""
