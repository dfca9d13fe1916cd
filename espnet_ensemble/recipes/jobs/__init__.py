"""Running commands side by side, here or on a cluster, each with a log of its own.

This is what Kaldi's ``run.pl`` and ``slurm.pl`` do for ESPnet's recipes.
"""
