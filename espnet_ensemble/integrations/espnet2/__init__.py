"""ESPnet2: its frontend and encoder, registration, packing, checks before training."""
