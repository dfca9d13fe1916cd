"""The ways of combining the features of several upstreams.

Each class takes one tensor per upstream, all with the same frames, and gives one.
Section 3 of the paper lists sum, weighted average, concatenation and attention, and
uses concatenation; ``projection`` is what ESPnet's ``fused`` frontend does. The others are
of the years after it.
"""

from collections.abc import Sequence

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.fusion.averages import Attention, Sum, WeightedSum
from espnet_ensemble.fusion.base import Fusion
from espnet_ensemble.fusion.concatenation import Concat, Gate, Projection, TimeShift
from espnet_ensemble.fusion.convolution import LayerConvolution
from espnet_ensemble.fusion.cross_attention import CrossAttention
from espnet_ensemble.fusion.prediction import Prediction

__all__ = ["FUSIONS", "Concat", "Fusion", "build_fusion"]

#: The name of each way of combining -> its class.
FUSIONS: dict[str, type[Fusion]] = {
    "concat": Concat,
    "sum": Sum,
    "weighted_sum": WeightedSum,
    "projection": Projection,
    "attention": Attention,
    "gate": Gate,
    "time_shift": TimeShift,
    "cross_attention": CrossAttention,
    "layer_conv": LayerConvolution,
    "prediction": Prediction,
}


def build_fusion(
    name: str,
    sizes: Sequence[int],
    num_layers: Sequence[int] | None = None,
    repeats: Sequence[int] | None = None,
    **conf,
) -> Fusion:
    """Build a fusion by the name that ``frontend_conf`` gives it.

    Args:
        name: One of ``FUSIONS``.
        sizes: Feature size of each upstream.
        num_layers: Hidden states of each upstream that are used; None: one of each.
        repeats: How often each upstream's frames are repeated; None: once.
        conf: The fusion's own options (``fusion_conf``).

    Raises:
        EnsembleError: If there is no such fusion, or it has no such option, or that has a
            wrong value.
    """
    if name not in FUSIONS:
        raise EnsembleError(
            f"fusion: expected one of {', '.join(FUSIONS)}, found {name!r}"
        )
    cls = FUSIONS[name]
    if cls.takes_layers:
        conf["num_layers"] = [1] * len(sizes) if num_layers is None else num_layers
    if cls.takes_repeats:
        conf["repeats"] = repeats
    try:
        return cls(sizes, **conf)
    except (TypeError, EnsembleError) as e:
        raise EnsembleError(f"fusion_conf of {name!r}: {e}") from e
