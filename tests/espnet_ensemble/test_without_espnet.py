"""The core needs torch and transformers, and nothing else of what the plugin asks for."""

import subprocess
import sys

# Of these, an import fails as if they were not installed.
MISSING = (
    "espnet espnet2 espnet3 espnet_model_zoo humanfriendly kaldiio s3prl soundfile soxr "
    "torchaudio wrapt"
).split()
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({MISSING}))\n"
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
