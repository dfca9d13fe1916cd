"""ESPnet3: registration, its Dask workers, checks before training, features, packing.

:data:`HOOKS` says what is done to which of its modules right after that is imported, by
the names of functions here; ``espnet_ensemble.register()`` sets them up.
"""

#: What is done, and to which module of ESPnet3.
HOOKS = (
    ("tasks:add_asr_choices", "espnet3.systems.esp2_asr.task"),
    ("tasks:add_transducer_choices", "espnet3.systems.esp2_asr.src.transducer_task"),
    ("workers:bring_plugin", "espnet3.parallel.parallel"),
    ("checks:check_before_training", "espnet3.components.modeling.lightning_module"),
    ("packing:complete_bundles", "espnet3.systems.base.system"),
    ("packing:allow_decoding", "espnet3.publication.inference_model"),
)
