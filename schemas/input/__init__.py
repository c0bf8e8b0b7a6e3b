"""The sections of an input file as pydantic models, and what follows from them alone."""
