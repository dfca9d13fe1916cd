"""Encoders are listed, and compared with the bare model."""

import re

import pytest
import transformers

from espnet_ensemble.bin.upstreams import main
from espnet_ensemble.testing.upstreams import ENCODERS, save_encoder
from espnet_ensemble.upstream.base import Upstream
from espnet_ensemble.upstream.catalogue import CATALOGUE
from espnet_ensemble.upstream.comparison import compare_with_bare
from espnet_ensemble.upstream.families import FAMILIES
from espnet_ensemble.upstream.registry import (
    BUILT_IN,
    UpstreamConf,
    register_upstream,
)


def test_search_finds_by_any_column(capsys):
    main(["--search", ""])
    out = capsys.readouterr().out
    assert all(f"{known.name} " in out for known in CATALOGUE)
    assert all(family in out for family in FAMILIES)
    main(["--search", "CC-BY-NC"])
    out = capsys.readouterr().out
    assert "facebook/mms-1b " in out and "facebook/hubert" not in out
    main(["--search", "lasr"])  # a family without a well-known checkpoint
    assert "families: lasr_encoder, lasr_ctc" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--search", "wavelm"])
    assert "found no family and no checkpoint with 'wavelm'" in capsys.readouterr().err


def test_all_known_checkpoints_are_of_supported_families():
    assert {known.family for known in CATALOGUE} <= {*FAMILIES, *BUILT_IN}
    assert len({known.name for known in CATALOGUE}) == len(CATALOGUE)
    for known in CATALOGUE:
        assert re.fullmatch(r"-|\d+(\.\d+)?( [kM])?", known.hours), known
        assert re.fullmatch(r"-|\d+|[A-Z][a-z]+", known.languages), known
        assert known.licence and known.layers > 0 and known.parameters > 1, known


def test_check_compares_with_the_bare_model(tiny_wavlm, models, capsys):
    main(["--check", tiny_wavlm, models("Wav2Vec2Bert")])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["name", "loader", "layers", "size", "hop"]
    for row in rows[:2]:
        _, loader, layers, size, hop, unit, bare, batch, *_ = row.split()
        assert (loader, layers, size, hop, unit) == (
            "transformers",
            "3",
            "32",
            "20",
            "ms",
        )
        assert 0 < float(bare) < 1e-4 and float(batch) < 1e-4


@pytest.mark.parametrize("family", ENCODERS)
def test_every_family_has_a_bare_model(family, tmp_path):
    if not hasattr(transformers, ENCODERS[family][1]):
        pytest.skip(f"transformers {transformers.__version__} has no {family}")
    conf = UpstreamConf(save_encoder(tmp_path, family), "weighted_sum")
    found = compare_with_bare(conf, seconds=(0.5, 0.3))
    assert found.is_right and found.bare_error is not None
    assert found.megabytes > 0 and found.speed > 0 and found.bare_speed > 0


def test_an_upstream_that_differs_is_told(tiny_hubert, capsys, monkeypatch):
    def load(conf, download_dir):
        wrong = load_upstream(conf, download_dir)
        for parameter in wrong.model.encoder.layers.parameters():
            parameter.data *= 1.1
        return wrong

    from espnet_ensemble.upstream import comparison

    load_upstream = comparison.load_upstream
    monkeypatch.setattr(comparison, "load_upstream", load)
    with pytest.raises(SystemExit):
        main(["--check", tiny_hubert])
    assert "its features are not those of the bare model" in capsys.readouterr().err


def test_a_registered_one_that_hears_its_batch_is_told(capsys, monkeypatch):
    from espnet_ensemble.upstream import registry

    monkeypatch.setattr(registry, "_registered", {})

    @register_upstream("batch_mean")
    class BatchMean(Upstream):
        def __init__(self, conf, download_dir):
            super().__init__("batch_mean", 16000, 320, 1, (0,), bytes(32))

        def forward(self, wavs, lengths):
            frames = wavs[:, ::320].unsqueeze(-1)
            return [frames + wavs.mean()], (lengths + 319) // 320

    with pytest.raises(SystemExit):
        main(["--check", "{name: batch_mean, layer: 0}"])
    assert "batch_mean: its features are not" in capsys.readouterr().err


@pytest.mark.slow
def test_names_of_s3prl_are_compared_with_s3prl(s3prl_checkpoints, capsys):
    path = s3prl_checkpoints("hubert", "large")
    main(["--check", f"{{name: hubert_local, path_or_url: {path}}}"])
    lines = capsys.readouterr().out.splitlines()  # S3PRL prints, too
    (row,) = [line.split() for line in lines if line.startswith("hubert_local")]
    assert row[:3] == ["hubert_local", "s3prl", "3"] and 0 < float(row[6]) < 1e-4


def test_what_cannot_be_loaded_does_not_keep_others_from_it(
    tiny_wavlm, tmp_path, capsys
):
    with pytest.raises(SystemExit):
        main(["--check", str(tmp_path), tiny_wavlm])
    found = capsys.readouterr()
    assert "transformers" in found.out
    assert "A folder needs config.json" in found.err
