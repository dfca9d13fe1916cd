#!/usr/bin/env bash
# Runs jobs on a SLURM cluster, with the options of Kaldi's script of this name and
# conf/slurm.conf. Why it is named so: see run.pl.

exec python3 -m espnet_ensemble.bin.submit --backend slurm "$@"
