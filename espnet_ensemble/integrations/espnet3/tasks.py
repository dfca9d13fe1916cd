"""ESPnet3's tasks: copies of ESPnet2's, with choices of their own."""

from types import ModuleType

from espnet_ensemble.integrations.espnet2.registration import add_choices


def add_asr_choices(task: ModuleType) -> None:
    """Offer the frontend, the encoder and the model to :mod:`espnet3.systems.esp2_asr.task`."""
    add_choices(task, "asr")


def add_transducer_choices(task: ModuleType) -> None:
    """Offer the frontend to :mod:`espnet3.systems.esp2_asr.src.transducer_task`."""
    add_choices(task, "asr_transducer")
