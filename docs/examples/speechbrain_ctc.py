"""The same as a SpeechBrain brain: python speechbrain_ctc.py ENCODER TABLE [EPOCHS].

SpeechBrain gives lengths as shares of the longest utterance of the batch, and takes them so.
"""

import sys

import soundfile
import speechbrain
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.nnet.losses import ctc_loss
from transformers import AutoModel

import espnet_ensemble  # noqa: F401, AutoModel knows ensembles from here on


class CTCBrain(speechbrain.Brain):
    """An encoder, a linear layer, CTC."""

    def compute_forward(self, batch, stage):
        """Log probabilities, (batch, frames, tokens), and lengths as shares."""
        wavs, shares = batch.speech
        lengths = (shares * wavs.size(1)).round().long().unsqueeze(1)
        mask = (torch.arange(wavs.size(1), device=wavs.device) < lengths).long()
        output = self.modules.encoder(wavs, mask)
        logits = self.modules.head(output.last_hidden_state)
        frames = output.attention_mask.sum(dim=1)
        return logits.log_softmax(-1), frames / logits.size(1)

    def compute_objectives(self, predictions, batch, stage):
        """The loss."""
        log_probs, shares = predictions
        tokens, token_shares = batch.tokens
        return ctc_loss(log_probs, tokens, shares, token_shares, blank_index=0)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Keep the mean loss of each epoch."""
        self.losses.append(stage_loss)


def main(encoder: str, table: str, epochs: int = 20) -> list[float]:
    """Train, and return the mean loss of each epoch."""
    torch.manual_seed(0)
    with open(table, encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    letters = sorted({letter for _, text in rows for letter in text})

    @speechbrain.utils.data_pipeline.takes("path")
    @speechbrain.utils.data_pipeline.provides("speech")
    def speech(path):
        return torch.from_numpy(soundfile.read(path, dtype="float32")[0])

    @speechbrain.utils.data_pipeline.takes("text")
    @speechbrain.utils.data_pipeline.provides("tokens")
    def tokens(text):
        return torch.tensor([1 + letters.index(x) for x in text])  # 0: blank

    data = {path: {"path": path, "text": text} for path, text in rows}
    dataset = DynamicItemDataset(data, [speech, tokens], ["id", "speech", "tokens"])
    model = AutoModel.from_pretrained(encoder)
    head = torch.nn.Linear(model.output_dim, 1 + len(letters))
    brain = CTCBrain(
        modules={"encoder": model, "head": head},
        opt_class=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    )
    brain.losses = []
    loader = {"batch_size": 8, "shuffle": True}
    brain.fit(range(epochs), dataset, train_loader_kwargs=loader)
    return brain.losses


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
