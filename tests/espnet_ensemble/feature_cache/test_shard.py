import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from espnet_ensemble.data.datadir import write
from espnet_ensemble.data.tables import read_table
from espnet_ensemble.ensemble import Ensemble
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.feature_cache.extract import ExtractConf, extract


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        # oneDNN's, of a convolution on the CPU.
        RuntimeError("could not create a primitive"),
        MemoryError("std::bad_alloc"),
    ],
    ids=["cuda", "cpu", "onednn", "c++"],
)
def test_batches_are_halved_when_memory_is_short(
    error, data, tmp_path, tiny_wavlm, monkeypatch
):
    """As on a GPU for which a batch of more than 2 utterances, or of 1 s, is too large."""
    conf, expected = {"upstreams": [tiny_wavlm]}, tmp_path / "expected"
    expected = FeatureCache(extract(data, conf, expected, ExtractConf("float32")))
    shapes, run = [], Ensemble.extract

    def run_or_fail(self, speech, lengths):
        shapes.append(tuple(speech.shape))
        if len(speech) > 2 or speech.size(1) >= 16000:
            raise error
        return run(self, speech, lengths)

    monkeypatch.setattr(Ensemble, "extract", run_or_fail)
    options = ExtractConf("float32", skip=True)
    path = extract(data, conf, tmp_path / "feats", options)
    assert shapes[:4] == [(7, 16000), (3, 16000), (1, 16000), (2, 8000)]
    (member,) = tmp_path.glob("feats/*/train")
    skipped = read_table(member / "skipped")
    assert list(skipped) == ["f"]
    assert "no memory for the features of 1 s of speech; divide it" in skipped["f"]
    found = FeatureCache(path)
    assert set(found) == set(expected) - {"f"}
    for key, feats in found.items():
        assert np.allclose(feats, expected[key], atol=1e-5)
    with pytest.raises(
        CacheError, match=f"^f: {tmp_path}/wav/f.wav: no memory for .*{error}"
    ):
        extract(data, conf, tmp_path / "feats", ExtractConf("float32"))


WITH_LITTLE_MEMORY = """if True:
    import resource
    import sys

    import torch

    from espnet_ensemble import FrontendConf
    from espnet_ensemble.feature_cache.extract import ExtractConf, extract

    folder, upstream = sys.argv[1:]
    torch.set_num_threads(1)
    ensemble = FrontendConf.parse({"upstreams": [upstream]}).build()
    ensemble.extract(torch.rand(1, 80000), torch.tensor([80000]))
    with open("/proc/self/statm", encoding="utf-8") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    limit = size + 120 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        ensemble.extract(torch.rand(80, 80000), torch.full((80,), 80000))
    except RuntimeError as error:
        assert "DefaultCPUAllocator" in str(error) or "primitive" in str(error), error
    else:
        sys.exit("there is memory for all at once")
    options = ExtractConf("float32", batch_seconds=1000)
    extract(f"{folder}/train", {"upstreams": [upstream]}, f"{folder}/feats", options)
"""


def test_memory_of_this_machine(tmp_path, tiny_wavlm):
    """A process that may have little more memory than it has, and a batch of 400 s."""
    wavs = {f"utt{number:02}": tmp_path / f"{number}.wav" for number in range(80)}
    for number, path in enumerate(wavs.values()):
        noise = np.random.default_rng(number).normal(0, 0.1, 80000)
        soundfile.write(path, noise, 16000)
    tables = {
        "utt2spk": dict.fromkeys(wavs, "alice"),
        "utt2num_samples": dict.fromkeys(wavs, "80000"),
        "wav.scp": {key: str(path) for key, path in wavs.items()},
    }
    write(tmp_path / "train", tables)
    # A process of its own: one that has run other tests may have freed memory to use.
    command = [sys.executable, "-c", WITH_LITTLE_MEMORY, str(tmp_path), tiny_wavlm]
    subprocess.run(command, check=True, timeout=300)
    assert len(list(tmp_path.glob("feats/*/train/cache.yaml"))) == 1
