"""How long the utterances were that a model was trained on."""

from pathlib import Path
from statistics import mean

import humanfriendly

from espnet_ensemble.data.tables import read_table
from espnet_ensemble.files import PathLike, read_yaml


def mean_utt_seconds(asr_train_config: PathLike) -> float | None:
    """Mean length of the utterances that a model was trained on, in seconds.

    Args:
        asr_train_config: The model's ``config.yaml``, which names the file of lengths that
            stage 10 has written, relative to the folder of the recipe.

    Returns:
        None where that is not there any more, as in a packed model, or where the lengths
        are not in samples.
    """
    config = read_yaml(asr_train_config)
    recipe = Path(asr_train_config).absolute().parents[2:3]
    for name in (config.get("train_shape_file") or [])[:1]:
        found = [x for root in (Path(), *recipe) if (x := root / name).is_file()]
        lengths = list(read_table(found[0]).values()) if found else []
        if lengths and all(length.isdecimal() for length in lengths):
            fs = humanfriendly.parse_size(
                str((config.get("frontend_conf") or {}).get("fs") or 16000)
            )
            return mean(map(int, lengths)) / fs
    return None
