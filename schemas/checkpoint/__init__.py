"""The file format of checkpoints: read without torch, and without running anything in them."""
