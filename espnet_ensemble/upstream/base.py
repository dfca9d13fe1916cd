"""The interface of an upstream: one SSL speech encoder."""

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from espnet_ensemble.upstream.fingerprint import probe_signal, summarize

Self = TypeVar("Self", bound="Upstream")


class CallState(threading.local):
    """What hooks inside a model know of the forward pass that runs them.

    Some libraries take no lengths down to the modules that need them. Attributes set here
    before a forward pass reach these modules' hooks, and only in the thread that set them:
    several threads may run one upstream. A copy, also a pickled one, has none of them.
    """

    def __reduce__(self):
        return type(self), ()


class CopyableLock:
    """Lets one thread at a time run what keeps state on itself.

    A copy, also a pickled one, is a lock of its own.
    """

    def __init__(self):
        self._lock = threading.Lock()

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *exception):
        self._lock.release()

    def __reduce__(self):
        return type(self), ()


class Upstream(Module, ABC):
    """One SSL speech encoder, whatever library it comes from.

    Several threads may call one upstream at once. Of one that
    :func:`~espnet_ensemble.upstream.registry.load_upstream` gave, a pickle holds the
    weights, and what to load them into: its checkpoint must be there where it is read.

    Args:
        name: What the user calls it; messages use it.
        fs: Sample rate that it expects, in Hz.
        hop_length: Samples from one frame to the next.
        feature_size: Size of one hidden state.
        layers: The hidden states that :meth:`forward` returns. 0 is the input to the
            first transformer layer.
        fingerprint: Hash of the weights as they were loaded, see
            :func:`espnet_ensemble.upstream.fingerprint.fingerprint`.
    """

    #: Whether it computes something of the waveforms on the host, and so takes them there.
    on_host = False

    def __init__(
        self,
        name: str,
        fs: int,
        hop_length: int,
        feature_size: int,
        layers: Sequence[int],
        fingerprint: bytes,
    ):
        super().__init__()
        self.name = name
        self.fs = fs
        self.hop_length = hop_length
        self.feature_size = feature_size
        self.layers = tuple(layers)
        self.fingerprint = fingerprint
        self._probe: Tensor | None = None
        self._layer_probes: Tensor | None = None
        #: Loads it once more, for pickles; None: it is pickled like any module.
        self.load_again: Callable[[], Upstream] | None = None

    def __reduce_ex__(self, protocol):
        # Parametrizations of torch, and functions inside functions of S3PRL, cannot be.
        if self.load_again is None:
            return super().__reduce_ex__(protocol)
        state = (
            self.state_dict(),
            self.training,
            self._probe,
            self._layer_probes,
        )
        return _restore, (self.load_again, *state)

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        result = memo[id(self)] = type(self).__new__(type(self))
        vars(result).update(copy.deepcopy(vars(self), memo))
        return result

    def probe(self) -> Tensor:
        """Summarise the hidden states of a fixed signal, in evaluation mode.

        The fingerprint says that weights are the same; the probe, that what is computed
        with them is. The upstream runs when this is called first, where it is then.

        Returns:
            float32, (:data:`~espnet_ensemble.upstream.fingerprint.PROBE_SIZE`,)
        """
        if self._probe is None:
            self._run_probe()
        assert self._probe is not None
        return self._probe

    def layer_probes(self) -> Tensor:
        """Summarise each hidden state by itself, as :meth:`probe` does all of them.

        Returns:
            float32, (layers, :data:`~espnet_ensemble.upstream.fingerprint.PROBE_SIZE`)
        """
        if self._layer_probes is None:
            self._run_probe()
        assert self._layer_probes is not None
        return self._layer_probes

    @torch.no_grad()
    def _run_probe(self) -> None:
        wavs = probe_signal(self.fs)
        device = next((p.device for p in self.parameters()), wavs.device)
        lengths = torch.tensor([wavs.size(1)])
        hidden_states, num_frames = self(wavs.to(device), lengths)
        states = [h[0, : int(num_frames)] for h in hidden_states]
        self._probe = summarize(states)
        self._layer_probes = torch.stack([summarize([state]) for state in states])

    @abstractmethod
    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states.

        An utterance's hidden states and their number are those that the encoder gives it
        alone, whatever it is batched with.

        Args:
            wavs: Waveforms in [-1, 1] at ``fs``, (batch, samples), zero-padded; where the
                model is, or, with :attr:`on_host`, on the host.
            lengths: Samples of each utterance, at least 1, (batch,); on the host, so that
                nothing has to wait for the device that the waveforms are on.

        Returns:
            For each of ``layers``, (batch, frames, feature_size), undefined at the
            padding; and the number of frames of each utterance, (batch,), on the host, too.
        """


def _restore(
    load_again: Callable[[], Upstream],
    weights: Mapping[str, Tensor],
    training: bool,
    probe: Tensor | None,
    layer_probes: Tensor | None,
) -> Upstream:
    upstream = load_again()
    upstream._probe, upstream._layer_probes = probe, layer_probes
    # Their device and type come with them.
    upstream.load_state_dict(weights, assign=True)
    return upstream.train(training)


def pad_to(wavs: Tensor, samples: int) -> Tensor:
    """Pad waveforms, (batch, samples), with zeros to at least so many samples."""
    return torch.nn.functional.pad(wavs, (0, max(0, samples - wavs.size(1))))


def cut_layers(encoder: Any, num_layers: int, norm_follows: bool) -> None:
    """Drop the transformer layers that are not used.

    Args:
        encoder: Has ``layers`` and ``layer_norm``.
        num_layers: How many layers to keep.
        norm_follows: Whether ``layer_norm`` comes after the last layer ("pre-norm"
            encoders) and so belongs to the last hidden state only; else it comes before
            the first layer and stays.
    """
    if num_layers == len(encoder.layers):
        return
    encoder.layers = encoder.layers[:num_layers]
    if norm_follows:
        encoder.layer_norm = torch.nn.Identity()
