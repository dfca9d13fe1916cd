"""Corpora, published or made on the spot: get them, check them, make data directories.

Each is a module, or a package, with a function ``prepare_<corpus>(corpus_dir, output_dir,
...)``; ``python -m espnet_ensemble.bin.prepare_<corpus>`` calls it.
"""
