"""What every room uses: errors, files, terminal, environment."""
