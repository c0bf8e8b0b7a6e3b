"""The network: positions and types in, energies and their derivatives out."""
