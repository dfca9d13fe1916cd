"""What all encoders of transformers share: cutting them, and collecting hidden states."""

from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Identity, Module

from espnet_ensemble.upstream.base import CallState, Upstream
from espnet_ensemble.upstream.errors import UpstreamError
from espnet_ensemble.upstream.fingerprint import fingerprint

if TYPE_CHECKING:  # it takes seconds to import
    import transformers


class HuggingFaceUpstream(Upstream):
    """What all families share: cutting the model to the layers that are used, and
    collecting their hidden states.

    Args:
        name: Hub id or folder.
        model: The encoder without head.
        extractor: Its feature extractor, which knows the checkpoint's input convention.
        layers: The hidden states to return.
        hop_length: Samples from one frame to the next.
        stack: Where in the model its layers are.
        tail: Modules that come after the layers, and so belong to the last hidden state
            only.
        dropped: Modules that no hidden state depends on.
        last: The module whose output is the last hidden state; "": the model.
        unused: Beginnings of the names of weights that no hidden state depends on.
    """

    def __init__(
        self,
        name: str,
        model: "transformers.PreTrainedModel",
        extractor: "transformers.SequenceFeatureExtractor",
        layers: tuple[int, ...],
        hop_length: int,
        stack: str = "encoder.layers",
        tail: Sequence[str] = (),
        dropped: Sequence[str] = (),
        last: str = "",
        unused: Sequence[str] = (),
    ):
        super().__init__(
            name=name,
            fs=extractor.sampling_rate,
            hop_length=hop_length,
            feature_size=feature_size(model.config),
            layers=layers,
            fingerprint=fingerprint(model.state_dict()),
        )
        self.model = model
        # DDP waits for the gradient of every parameter that trains.
        unused = ("masked_spec_embed", "prenet.masked_spec_embed", *unused)
        for key, parameter in model.named_parameters():
            if key.startswith(tuple(unused)):
                parameter.requires_grad_(False)
        self._call = CallState()
        for path in dropped:
            self._drop(path)
        self._cut(stack, tail, last)

    def _cut(self, stack: str, tail: Sequence[str], last: str) -> None:
        """Drop what the hidden states do not need, and have those inside kept."""
        parent, _, attribute = stack.rpartition(".")
        holder = attrgetter(parent)(self.model) if parent else self.model
        modules, top = getattr(holder, attribute), max(self.layers)
        ends_early = top < len(modules)
        if ends_early:
            # The input to the first is kept where it arrives.
            modules = modules[: max(top, 1)]
            setattr(holder, attribute, modules)
            for path in tail:
                self._drop(path)
        if top == 0:
            modules.requires_grad_(False)
        elif ends_early:
            modules[-1].register_forward_hook(partial(self._keep_output, top))
        elif last:
            module = attrgetter(last)(self.model)
            module.register_forward_hook(partial(self._keep_output, top))
        for module in modules:
            module.register_forward_pre_hook(self._pass_arguments, with_kwargs=True)
        for index in self.layers:
            if index < len(modules):
                modules[index].register_forward_pre_hook(
                    partial(self._keep_input, index), with_kwargs=True
                )

    def _drop(self, path: str) -> None:
        parent, _, child = path.rpartition(".")
        holder = attrgetter(parent)(self.model) if parent else self.model
        setattr(holder, child, Identity())

    def _keep_input(self, index: int, layer: Module, args: tuple, kwargs: dict) -> None:
        state = args[0] if args else kwargs["hidden_states"]
        self._call.inner_states[index] = state

    def _keep_output(self, index: int, layer: Module, args: tuple, out: Any) -> None:
        self._call.inner_states[index] = out if isinstance(out, Tensor) else out[0]

    def _pass_arguments(self, layer: Module, args: tuple, kwargs: dict) -> Any:
        passed = self._call.layer_arguments
        # The first are the hidden states; a mask may come second.
        return (args[:1], {**kwargs, **passed}) if passed else None

    def _hidden_states(
        self, *args, layer_arguments: Mapping[str, Any] | None = None, **kwargs
    ) -> list[Tensor]:
        """Run the model.

        Args:
            args: What it gets.
            layer_arguments: What all its layers get, in place of what it makes for them:
                what models make of a mask often asks the device whether anything is padded.
            kwargs: What it gets, too.
        """
        if torch.is_grad_enabled() and self._computes_layers_again():
            raise UpstreamError(
                f"upstream {self.name!r}: gradient checkpointing is not supported: layers "
                "that are computed again do not know the lengths of the utterances"
            )
        self._call.inner_states = {}
        self._call.layer_arguments = layer_arguments
        try:
            last = self.model(*args, **kwargs).last_hidden_state
            return [self._call.inner_states.get(i, last) for i in self.layers]
        finally:
            del self._call.inner_states, self._call.layer_arguments

    def _computes_layers_again(self) -> bool:
        # The property that says so has another name since transformers 5.24.
        modules = self.model.modules()
        return any(
            getattr(module, "gradient_checkpointing", False) for module in modules
        )

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype


def feature_size(config: Any) -> int:
    """The size of an encoder's hidden states, whatever its configuration calls it."""
    return getattr(config, "hidden_size", None) or config.hidden_dim
