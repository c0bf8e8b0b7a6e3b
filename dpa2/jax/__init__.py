"""The DPA-2 network once more, in jax.numpy, and its exports: SavedModel and StableHLO."""
