"""What ESPnet3 looks for in a ``data_src``: features of frozen upstreams.

.. code-block:: yaml

    dataset:
      train:
        - data_src: espnet_ensemble.integrations.espnet3.feature_cache
          data_src_args:
            path: dump/feats/combinations/.../train/members.yaml
"""

from espnet_ensemble.integrations.espnet3.datasets import (
    FeatureCacheDataset as Dataset,
)
from espnet_ensemble.integrations.espnet3.datasets import (
    NothingToBuild as DatasetBuilder,
)

__all__ = ["Dataset", "DatasetBuilder"]
