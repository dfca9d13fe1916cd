"""How often a batch waits for the device, seen without one."""

from pathlib import Path

import pytest
import torch
import transformers

from espnet_ensemble import Ensemble, EnsembleFrontend
from espnet_ensemble.fusion import FUSIONS
from espnet_ensemble.masking import BandMask, MemberDropout
from espnet_ensemble.testing.upstreams import ENCODERS, save_encoder
from espnet_ensemble.testing.waits import DEVICE, WaitCounter
from espnet_ensemble.upstream import UpstreamConf, load_upstream


class TestCounter:
    """What counts as a wait."""

    def waits(self, work) -> list[str]:
        with WaitCounter() as counter:
            numbers = torch.arange(6.0).to(DEVICE)
            counter.waits.clear()
            work(numbers)
        return [wait.what for wait in counter.waits]

    @pytest.mark.parametrize(
        "work",
        [
            lambda x: x.sum().item(),
            lambda x: bool(x[0] > 0),
            lambda x: int(x.max()),
            lambda x: x.tolist(),
            lambda x: x.cpu(),
            lambda x: x[x > 2],
            lambda x: x.nonzero(),
            lambda x: x.masked_select(x > 2),
            lambda x: x.equal(x),
            lambda x: x.repeat_interleave(torch.ones(6, dtype=torch.long).to(DEVICE)),
            lambda x: torch.ones(3).to(DEVICE),
            lambda x: torch.tensor([1.0], device=DEVICE),
            lambda x: x[[1, 2]],
            lambda x: x.copy_(torch.ones(6)),
            lambda x: torch.ones(6).copy_(x),
            lambda x: x.index_put_((x > 2,), x[:3] + 1),
        ],
    )
    def test_values_that_the_host_asks_for(self, work):
        assert self.waits(work)

    @pytest.mark.parametrize(
        "work",
        [
            lambda x: (x + 1).sum(),
            lambda x: x.masked_fill(x > 2, 0),
            lambda x: x.index_put_((x > 2,), torch.tensor(0.0)),
            lambda x: x[1:3],
            lambda x: x[torch.arange(2, device=DEVICE)],
            lambda x: torch.ones(3).to(DEVICE, non_blocking=True),
            lambda x: x.to(torch.bfloat16),
            lambda x: x.size(0) > 3,
            lambda x: torch.zeros(6, device=DEVICE).copy_(x),
        ],
    )
    def test_what_the_device_does_by_itself(self, work):
        assert self.waits(work) == []

    def test_says_where(self):
        with WaitCounter() as counter:
            torch.ones(2).to(DEVICE).sum().item()
        assert [wait.file for wait in counter.waits] == [__file__] * 2
        assert str(counter.waits[1]).endswith(
            "torch.ones(2).to(DEVICE).sum().item() (_local_scalar_dense)"
        )

    def test_tensors_of_two_devices_are_refused(self):
        with pytest.raises(RuntimeError, match="expected all tensors on one device"):
            self.waits(lambda x: x + torch.ones(6))

    def test_values_and_gradients_are_right(self):
        x = torch.randn(3, 4)
        linear = torch.nn.Linear(4, 2)
        linear(x).square().sum().backward()
        expected = linear.weight.grad
        linear.weight.grad = None
        with WaitCounter():
            linear.to(DEVICE)
            linear(x.to(DEVICE)).square().sum().backward()
            found = linear.weight.grad.cpu()
        torch.testing.assert_close(found, expected)


def pretend(frontend, *batch):
    """A batch and a frontend on the pretended device, used once before."""
    with WaitCounter():
        frontend.to(DEVICE)
        batch = [x.to(DEVICE) for x in batch]
        with torch.no_grad():
            frontend(*batch)
    return batch


@pytest.fixture(scope="session")
def named(models, s3prl_checkpoints):
    """An upstream by the loader and its family: base, base, and large with a layer norm."""

    def get(loader: str, index: int):
        if loader == "transformers":
            families = [("WavLM",), ("Hubert",), ("Wav2Vec2", "large", True)]
            return models(*families[index])
        families = [("wavlm",), ("hubert",), ("wav2vec2", "large")]
        path = s3prl_checkpoints(*families[index])
        return {"name": f"{families[index][0]}_local", "path_or_url": path}

    return get


@torch.no_grad()
@pytest.mark.parametrize("loader", ["transformers", "s3prl"])
def test_a_batch_waits_once_whatever_the_number_of_members(loader, named, speech):
    frontend = EnsembleFrontend([named(loader, i) for i in range(3)]).eval()
    batches = [speech, (torch.randn(2, 4000), torch.full((2,), 4000))]
    cases = [
        (members, *batch) for members in ([0], [0, 1], [0, 1, 2]) for batch in batches
    ]
    expected = []
    for members, *batch in cases:
        frontend.select(members)
        expected.append(frontend(*batch))
    pretend(frontend, *speech)
    for (members, *batch), (feats, feats_lens) in zip(cases, expected, strict=True):
        frontend.select(members)
        with WaitCounter() as counter:
            batch = [x.to(DEVICE) for x in batch]
            counter.waits.clear()
            found, found_lens = frontend(*batch)
            assert len(counter.waits) == 1, counter.waits
            torch.testing.assert_close(found.cpu(), feats, rtol=1e-4, atol=1e-5)
            assert found_lens.tolist() == feats_lens.tolist()


@torch.no_grad()
@pytest.mark.parametrize(
    "family", ["Data2VecAudio", "Wav2Vec2Conformer", "UniSpeech", "UniSpeechSat"]
)
def test_so_does_each_family_over_waveforms(family, models, speech):
    frontend = EnsembleFrontend([models(family)])
    batch = pretend(frontend, *speech)
    with WaitCounter() as counter:
        frontend(*batch)
    assert len(counter.waits) == 1, counter.waits


@torch.no_grad()
@pytest.mark.parametrize(
    "family",
    ["SeamlessM4T", "Whisper", "Qwen2Audio", "Parakeet", "Lasr", "Speech2Text", "SEW"],
)
def test_so_does_each_over_other_features(family, tmp_path, speech):
    """Feature extractors run on the host: waveforms come there with the lengths."""
    if not hasattr(transformers, ENCODERS[family][1]):
        pytest.skip(f"transformers {transformers.__version__} has no {family}")
    count_one(save_encoder(tmp_path, family), speech)


@torch.no_grad()
@pytest.mark.parametrize("name", ["fbank", "mfcc", "Wav2Vec2Bert"])
def test_so_do_filterbanks(name, models, speech):
    count_one(models(name) if name == "Wav2Vec2Bert" else name, speech)


def count_one(name, speech):
    frontend = EnsembleFrontend([name])
    expected, _ = frontend(*speech)
    batch = pretend(frontend, *speech)
    with WaitCounter() as counter:
        feats, _ = frontend(*batch)
        assert len(counter.waits) == 1, counter.waits
        torch.testing.assert_close(feats.cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def upstreams(tiny_wavlm, tiny_hubert):
    return [load_upstream(UpstreamConf(x, [1, 3])) for x in (tiny_wavlm, tiny_hubert)]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_so_does_training_whatever_the_fusion(fusion, upstreams, speech):
    more = {"num_layers": [2, 2]} if FUSIONS[fusion].takes_layers else {}
    ensemble = Ensemble(
        upstreams,
        fusion=FUSIONS[fusion]([32, 32], **more),
        normalize="utterance",
        feature_mask=BandMask(),
        member_dropout=MemberDropout(0.3),
    ).train()
    batch = pretend(ensemble, *speech)
    with WaitCounter() as counter:
        feats, _ = ensemble(*batch)
        if feats.requires_grad:
            feats.square().mean().backward()
    assert len(counter.waits) == 1, counter.waits


def test_so_does_training_of_upstreams(tiny_wavlm, tiny_hubert, speech):
    frontend = EnsembleFrontend([tiny_wavlm, tiny_hubert], frozen=False).train()
    batch = pretend(frontend, *speech)
    with WaitCounter() as counter:
        feats, _ = frontend(*batch)
        feats.square().mean().backward()
    assert len(counter.waits) == 1, counter.waits


def test_so_do_features_from_the_cache(tiny_wavlm, tiny_hubert):
    frontend = EnsembleFrontend([tiny_wavlm, tiny_hubert], fusion="attention").train()
    with WaitCounter() as counter:
        frontend.to(DEVICE)
        feats = torch.randn(2, 7, 64).to(DEVICE)
        lengths = torch.tensor([7, 4]).to(DEVICE)
        counter.waits.clear()
        frontend(feats, lengths)[0].mean().backward()
    assert len(counter.waits) == 1, counter.waits


def test_speech_that_is_not_finite_is_found_with_that_wait(tiny_wavlm, speech):
    wavs, lengths = speech
    frontend = EnsembleFrontend([tiny_wavlm])
    wavs[2, 5] = float("inf")
    with WaitCounter():
        frontend.to(DEVICE)
        with pytest.raises(
            ValueError, match=r"infinite samples in utterance\(s\) \[2\]"
        ):
            frontend(wavs.to(DEVICE), lengths.to(DEVICE))


def test_a_training_step_of_espnet_waits_once_for_the_frontend(
    tiny_wavlm, tiny_hubert, speech
):
    from espnet2.asr.ctc import CTC
    from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
    from espnet2.asr.espnet_model import ESPnetASRModel

    frontend = EnsembleFrontend([tiny_wavlm, tiny_hubert])
    model = ESPnetASRModel(
        vocab_size=5,
        token_list=["<blank>", "<unk>", "a", "b", "<sos/eos>"],
        frontend=frontend,
        specaug=None,
        normalize=None,
        preencoder=None,
        encoder=TransformerEncoder(
            64, 16, num_blocks=1, linear_units=16, input_layer="linear"
        ),
        postencoder=None,
        decoder=None,
        ctc=CTC(5, 16),
        joint_network=None,
        ctc_weight=1.0,
        report_cer=False,
        report_wer=False,
    ).train()
    wavs, lengths = speech
    text = torch.tensor([[2], [3], [2], [3], [2]])
    with WaitCounter() as counter:
        model.to(DEVICE)
        batch = [x.to(DEVICE) for x in (wavs, lengths, text, torch.ones(5).long())]
        for _ in range(2):  # the first brings upstreams to the device
            counter.waits.clear()
            loss, _, _ = model(*batch)
            loss.backward()
    ours = [w for w in counter.waits if "espnet_ensemble" in Path(w.file).parts]
    libraries = {
        name
        for w in counter.waits
        for name in ("s3prl", "transformers")
        if name in w.file
    }
    assert len(ours) == 1, ours
    assert not libraries


@pytest.mark.gpu
@torch.no_grad()
@pytest.mark.parametrize("loader", ["transformers", "s3prl"])
def test_cuda_itself_sees_one_wait(loader, named, speech):
    frontend = EnsembleFrontend([named(loader, i) for i in range(3)]).cuda()
    batch = [x.cuda() for x in speech]
    frontend(*batch)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning, match="synchronizing CUDA operation") as warned:
            frontend(*batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(warned) == 1
