"""Upstreams with random weights: what the architecture alone, untrained, is good for."""

import os
from collections.abc import Mapping

from espnet_ensemble.files import atomic_write
from espnet_ensemble.recipes.tables.experiments import Experiment


def save_random_weights(
    experiment: Experiment, env: Mapping[str, str] | None = None
) -> None:
    """Write an experiment's upstreams that have random weights, unless they are there.

    Their configuration is a published checkpoint's, which transformers may have to download,
    or that of a folder of the recipe. The seed is fixed: all experiments share one draw.

    Args:
        experiment: What is to be run.
        env: Environment variables of the run.

    Raises:
        OSError: If the checkpoint cannot be found.
    """
    for name, source in experiment.system.random.items():
        folder = experiment.recipe_dir / name
        if folder.exists():
            continue
        local = experiment.recipe_dir / source
        cache_dir = (env or {}).get("HF_HUB_CACHE")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as part:
            _save(str(local) if local.is_dir() else source, str(part), cache_dir)


def _save(source: str, folder: str, cache_dir: str | None) -> None:
    # Both take seconds: only where they are needed.
    import torch
    import transformers

    options = {"cache_dir": cache_dir, "local_files_only": cache_dir is not None}
    config = transformers.AutoConfig.from_pretrained(source, **options)
    os.makedirs(folder, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(source, **options)
    extractor.save_pretrained(folder)
