"""What ESPnet3 looks for in a ``data_src``: data directories.

.. code-block:: yaml

    dataset:
      train:
        - data_src: espnet_ensemble.integrations.espnet3.data_dir
          data_src_args:
            data_dir: data/train
"""

from espnet_ensemble.integrations.espnet3.datasets import DataDirDataset as Dataset
from espnet_ensemble.integrations.espnet3.datasets import (
    NothingToBuild as DatasetBuilder,
)

__all__ = ["Dataset", "DatasetBuilder"]
