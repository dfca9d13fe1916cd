"""Features of frozen upstreams on disk: extract once, train many times.

::

    <cache_dir>/
        <upstream>-<layer>-<weights>-<storage>/<data set>/      a member
            shards/000/000000.safetensors    archives: features, and of which audio they are
            index/                           in which archive an utterance is, and where
            skipped                          utterances that have no features, and why: if any
            cache.yaml                       what the features are
        combinations/<member>+<member>/<data set>/members.yaml

A *member* is one upstream's features of a data set. Every file is written whole or not at
all: a member is complete when it has its ``cache.yaml``.

The way of the data, by modules:

- :mod:`~espnet_ensemble.feature_cache.extract` is asked for features;
- :mod:`~espnet_ensemble.feature_cache.identity` says what they are, and of which audio;
- :mod:`~espnet_ensemble.feature_cache.member` says whether they are there already;
- :mod:`~espnet_ensemble.feature_cache.workers` are the processes that make the rest;
- :mod:`~espnet_ensemble.feature_cache.shard` is what one of them makes at a time: it reads audio, runs the
  upstream, and writes
- :mod:`~espnet_ensemble.feature_cache.archive`: files of safetensors;
- :mod:`~espnet_ensemble.feature_cache.index` says where in them an utterance is.

:mod:`~espnet_ensemble.feature_cache.dataset` reads them in training,
:mod:`~espnet_ensemble.feature_cache.verify` looks for damage,
:mod:`~espnet_ensemble.feature_cache.convert` takes what older versions have written.
"""

from espnet_ensemble.errors import EnsembleError


class CacheError(EnsembleError):
    """A feature cache cannot be made or used."""
