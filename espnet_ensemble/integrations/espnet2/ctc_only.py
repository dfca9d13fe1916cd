"""What ESPnet gets wrong of models that have nothing but CTC, mended from outside.

Each function takes a module of ESPnet right after its import (see
:mod:`espnet_ensemble.integrations.espnet2.registration`).
"""

import inspect
from types import ModuleType

import wrapt

from espnet_ensemble.frames import padding_mask


def decode_by_ctc(beam_search: ModuleType) -> None:
    """Let the beam search of a model without decoder be one over CTC scores.

    ESPnet's default weight of CTC, 0.5, leaves the other half to a decoder. Where there is
    none, it then selects the tokens to look at by scores that are all zero: by their order
    in the vocabulary. And it fails where the beam is wider than the vocabulary.

    Args:
        beam_search: The module with ESPnet's ``BeamSearch``.
    """
    wrapt.wrap_function_wrapper(beam_search, "BeamSearch.__init__", _init_beam_search)


def _init_beam_search(init, instance, args, kwargs):
    given = inspect.signature(init).bind(*args, **kwargs).arguments
    scorers = given["scorers"]
    ctc = scorers.get("ctc")
    if ctc is not None and scorers.get("decoder") is None:
        given["weights"] = {**given["weights"], "ctc": 1.0}
        given["pre_beam_score_key"] = None
        given["beam_size"] = min(given["beam_size"], given["vocab_size"])
        # From 202611 on, ESPnet restricts CTC scores to a window. These are exact.
        if hasattr(ctc, "window_margin"):
            ctc.window_margin = 0
    init(**given)


def report_true_cer(espnet_model: ModuleType) -> None:
    """Let the frontend ``ensemble``'s models report the error rate of the utterances.

    ESPnet decodes greedily over the padding, too. What the CTC layer gives there, it
    counts as errors, so that the rate depends on the batch.

    Args:
        espnet_model: :mod:`espnet2.asr.espnet_model`.
    """
    wrapt.wrap_function_wrapper(
        espnet_model, "ESPnetASRModel._calc_ctc_loss", _calc_ctc_loss
    )


def _calc_ctc_loss(calc, model, args, kwargs):
    loss, cer = calc(*args, **kwargs)
    if cer is None or not hasattr(model.frontend, "fuse"):
        return loss, cer
    given = inspect.signature(calc).bind(*args, **kwargs).arguments
    best = model.ctc.argmax(given["encoder_out"])
    padding = padding_mask(given["encoder_out_lens"], best.size(1))
    best = best.masked_fill(padding, model.blank_id)
    cer = model.error_calculator(best.cpu(), given["ys_pad"].cpu(), is_ctc=True)
    return loss, cer
