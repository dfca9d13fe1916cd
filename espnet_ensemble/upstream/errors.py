"""What goes wrong with upstreams."""

from espnet_ensemble.errors import EnsembleError


class UpstreamError(EnsembleError):
    """An upstream that cannot be found, fetched or used as it was asked for."""
