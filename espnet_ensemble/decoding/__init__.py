"""From CTC's posteriors to transcripts: without ESPnet, and without an encoder."""
