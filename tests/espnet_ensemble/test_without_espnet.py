"""The core needs torch and transformers, and nothing else of what the plugin asks for."""

import subprocess
import sys
from pathlib import Path

# Of these, an import fails as if they were not installed.
MISSING = (
    "espnet espnet2 espnet3 espnet_model_zoo humanfriendly kaldiio s3prl soundfile soxr "
    "torchaudio wrapt"
).split()
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({MISSING}))\n"
NOT_FOUND = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "s3prl" else find_spec(name)
"""
TEN_LINES = """
import torch
from espnet_ensemble import Ensemble, UpstreamConf, load_upstream

upstreams = [load_upstream(UpstreamConf(name)) for name in ({wavlm!r}, {hubert!r})]
ensemble = Ensemble(upstreams)
speech, speech_lengths = torch.randn(2, 16000), torch.tensor([16000, 12000])
feats, feats_lens = ensemble(speech, speech_lengths)
print(tuple(feats.shape), feats_lens.tolist())
"""


def test_two_transformers_models_in_ten_lines(tiny_wavlm, tiny_hubert):
    assert len(TEN_LINES.strip().splitlines()) <= 10
    code = BLOCK + TEN_LINES.format(wavlm=tiny_wavlm, hubert=tiny_hubert)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "(2, 49, 64) [49, 37]"


def test_names_without_a_slash_without_s3prl(tiny_wavlm):
    code = f"""
import os
from espnet_ensemble import UpstreamConf, load_upstream
from espnet_ensemble.upstream import UpstreamError

os.chdir({str(Path(tiny_wavlm).parent)!r})
print(load_upstream(UpstreamConf({Path(tiny_wavlm).name!r})).feature_size)
try:
    load_upstream(UpstreamConf("wavlm_base"))
except UpstreamError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", NOT_FOUND + code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    size, message = done.stdout.splitlines()
    assert size == "32"
    assert message == (
        "S3PRL is not installed; run `pip install s3prl`, or `pip install espnet-s3prl` "
        "for ESPnet's fork of it, of which one only may be installed"
    )
