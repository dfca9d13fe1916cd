"""Published and generated corpora: get them, check them, make data directories."""
