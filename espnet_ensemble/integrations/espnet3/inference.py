"""CTC decoding in ESPnet3's stage ``infer``, in packed models and in demos."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.decoding.greedy import GreedySearch
from espnet_ensemble.decoding.hypothesis import Hypothesis
from espnet_ensemble.files import PathLike
from espnet_ensemble.integrations.espnet2.model import load_ctc_model
from espnet_ensemble.integrations.espnet2.pretrained import (
    make_search,
    search_options,
)

#: As ESPnet's ``Speech2Text`` gives it: text, tokens, their ids, and what was found.
Result = tuple[str, list[str], list[int], Hypothesis]


class CTCSpeech2Text:
    """Stands where ESPnet3's configurations have ESPnet2's ``Speech2Text``.

    That runs the beam search of models with a decoder over one utterance after the other;
    this takes the best path through CTC's posteriors, in a batch, or searches with a beam
    where options ask for it. Other options than those of models with CTC alone are not
    known to it.

    Args:
        asr_train_config: The model's ``config.yaml``; None: the one beside the weights.
        asr_model_file: Its weights: what ESPnet3 has averaged, or a checkpoint.
        device: Where it shall run, such as "cuda:0".
        dtype: Type that it computes in, such as "bfloat16".
        options: Of the search, as ``espnet-ensemble decode`` has them: those of
            :data:`espnet_ensemble.decoding.beam_search.SEARCH_OPTIONS`, such as ``beam``.

    Raises:
        EnsembleError: If a file is missing or not what it should be, the model has more
            than CTC, or an option is wrong.
    """

    def __init__(
        self,
        asr_train_config: PathLike | None,
        asr_model_file: PathLike,
        device: str = "cpu",
        dtype: str = "float32",
        **options: Any,
    ):
        search_conf = search_options(options)  # complains before the model is loaded
        self._model = load_ctc_model(asr_train_config, asr_model_file, device, dtype)
        vocabulary = self._model.vocabulary
        vocabulary.to_text([])  # a SentencePiece model is read at its first use
        search = make_search(self._model, search_conf)
        self._search = search or GreedySearch(vocabulary.blank_id)

    def __call__(self, speech: Any) -> list[Any]:
        """Transcribe an utterance, or several.

        Args:
            speech: Samples in [-1, 1], (samples,), or cached features, (frames, features);
                or a list of them.

        Returns:
            A list with one :data:`Result`; of a list, a list of such.
        """
        if not isinstance(speech, list):
            return self([speech])[0]
        items = [torch.as_tensor(np.asarray(x), dtype=torch.float32) for x in speech]
        if self._model.takes_padding:
            return self._transcribe(items)
        return [self._transcribe([item])[0] for item in items]

    def _transcribe(self, items: Sequence[Tensor]) -> list[list[Result]]:
        lengths = torch.tensor([len(item) for item in items])
        log_probs, num_frames = self._model.log_probs(
            pad_sequence(list(items), batch_first=True), lengths
        )
        names = [str(index) for index in range(len(items))]
        found = self._search(names, log_probs, num_frames)
        return [[self._result(best)] for best, *_ in found]

    def _result(self, best: Hypothesis) -> Result:
        vocabulary, ids = self._model.vocabulary, list(best.token_ids)
        return vocabulary.to_text(ids), vocabulary.to_tokens(ids), ids, best


#: Where packed models name :class:`CTCSpeech2Text`.
TARGETS = f"{__name__}."
