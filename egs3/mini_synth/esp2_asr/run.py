#!/usr/bin/env python3
"""Stages of ESPnet3, with the features of frozen upstreams computed once."""

from espnet3.systems.launch import launch

from espnet_ensemble.integrations.espnet3.system import CONF_PACKAGE, EnsembleASRSystem

# Processes that ESPnet3 starts read this file, too.
if __name__ == "__main__":
    launch(EnsembleASRSystem, conf_package=CONF_PACKAGE)
