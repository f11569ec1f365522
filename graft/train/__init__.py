"""Training: the loop as an iterator of steps, and the optimizer."""
