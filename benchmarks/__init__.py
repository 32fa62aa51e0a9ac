"""Speed and memory, side by side with a reference formulation in the same run."""
