"""What an experiment will cost: rates measured on this machine in a minute, and sums of them."""
