"""What `zoo explain` says: texts on every code, and the meaning of every key."""
