"""Systems on disk, batches and sampling; numpy only, never torch."""
