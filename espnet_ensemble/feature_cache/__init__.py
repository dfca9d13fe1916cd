"""Features of frozen upstreams on disk: extract once, train many times."""
