"""A model applied to data: predictions, error tables, reports."""
