"""Training: statistics, loss, schedule, the loop, its log and its checkpoints."""
