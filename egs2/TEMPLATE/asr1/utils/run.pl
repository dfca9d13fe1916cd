#!/usr/bin/env bash
# Runs jobs on this machine, with the options of Kaldi's script of this name. The name is
# kept, and there is a file at all, for espnet2.bin.launch: it wants a program that it finds
# in PATH, and tells by its name, run.pl or slurm.pl, how to start several nodes.

exec python3 -m espnet_ensemble.bin.submit --backend local "$@"
