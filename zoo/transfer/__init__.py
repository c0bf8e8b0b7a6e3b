"""Files over the network: complete and right, or not there."""
