"""WSJ, from its discs."""
