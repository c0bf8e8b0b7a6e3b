"""Fine-tuning: which branch each branch starts from, what is copied, how the energies shift."""
