"""What an input file may say, and the diagnostics when it does not; never imports torch."""
