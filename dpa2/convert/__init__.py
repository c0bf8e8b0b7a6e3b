"""deepmd-kit's names and layouts to and from ours."""
