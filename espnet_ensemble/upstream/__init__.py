"""SSL speech encoders, from S3PRL or transformers, behind one interface."""

from espnet_ensemble.upstream.base import Upstream, UpstreamError
from espnet_ensemble.upstream.registry import UpstreamConf, load_upstream

__all__ = ["Upstream", "UpstreamConf", "UpstreamError", "load_upstream"]
