"""Which upstreams and layers are worth combining, before and after training."""
