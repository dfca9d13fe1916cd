"""A configured ensemble as one model of transformers, and as other tools take encoders."""
