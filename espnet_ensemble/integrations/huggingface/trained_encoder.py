"""The frontend of a trained model, as an encoder for whatever takes transformers' models."""

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, read_yaml, working_directory
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.integrations.espnet2.packed_config import is_ensemble
from espnet_ensemble.integrations.espnet2.packed_model import read_weights, weights_in
from espnet_ensemble.integrations.espnet2.pretrained import find_model
from espnet_ensemble.integrations.huggingface.configuration import EnsembleConfig
from espnet_ensemble.integrations.huggingface.modeling import EnsembleModel

_PREFIX = "frontend."


def trained_encoder(model: PathLike) -> EnsembleModel:
    """Take the frontend ``ensemble`` out of a trained model, whatever its task.

    What ESPnet does behind it (SpecAugment, normalization with statistics, encoder, CTC)
    is left out.

    Args:
        model: What :func:`~espnet_ensemble.integrations.espnet2.pretrained.find_model` takes: an experiment, an archive, or an id
            on the Hugging Face hub.

    Returns:
        With the fusion, weights of layers and upstreams as they were trained.

    Raises:
        EnsembleError: If there is no such model, its frontend is another one, or its
            upstreams are not those that it was trained over.
    """
    files = find_model(model)
    config = read_yaml(files.asr_train_config)
    if not is_ensemble(config):
        raise EnsembleError(
            f"{files.asr_train_config}: expected frontend: ensemble, found "
            f"{config.get('frontend')!r}; espnet-ensemble convert makes one of s3prl and fused"
        )
    with working_directory(files.root):
        conf = FrontendConf.parse(config.get("frontend_conf") or {}).absolute()
        encoder = EnsembleModel(EnsembleConfig(frontend_conf=conf.to_dict()))
    weights = {
        key.removeprefix(_PREFIX): value
        for key, value in weights_in(read_weights(files.asr_model_file)).items()
        if key.startswith(_PREFIX)
    }
    try:
        encoder.ensemble.load_state_dict(weights)
    except RuntimeError as error:
        raise EnsembleError(f"{files.asr_model_file}: {error}") from error
    return encoder
