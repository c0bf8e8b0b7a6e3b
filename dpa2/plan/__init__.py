"""A run explained before it starts; torch only where steps are really run."""
