"""CTC on an ensemble in plain PyTorch: python ctc.py ENCODER TABLE [EPOCHS].

ENCODER is what save_pretrained or `espnet-ensemble export` has written; each line of TABLE is an
audio file of the encoder's sample rate, a tab, and its text.
"""

import sys

import soundfile
import torch
from transformers import AutoFeatureExtractor, AutoModel

import espnet_ensemble  # noqa: F401, AutoModel knows ensembles from here on


def main(encoder: str, table: str, epochs: int = 20) -> list[float]:
    """Train, print what is recognised, and return the mean loss of each epoch."""
    torch.manual_seed(0)
    with open(table, encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    letters = sorted({letter for _, text in rows for letter in text})
    model = AutoModel.from_pretrained(encoder)
    extractor = AutoFeatureExtractor.from_pretrained(encoder)
    head = torch.nn.Linear(model.output_dim, 1 + len(letters))  # 0: blank
    trains = [p for p in (*model.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(trains, lr=0.01)

    def log_probs(batch):
        audio = [soundfile.read(path, dtype="float32")[0] for path, _ in batch]
        inputs = extractor(
            audio,
            sampling_rate=model.sampling_rate,
            padding=True,
            return_tensors="pt",
        )
        output = model(**inputs)
        logits = head(output.last_hidden_state)
        return logits.log_softmax(-1), output.attention_mask.sum(dim=1)

    losses = []
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(rows)).split(8):
            batch = [rows[index] for index in batch]
            found, frames = log_probs(batch)
            targets = [1 + letters.index(x) for _, text in batch for x in text]
            loss = torch.nn.functional.ctc_loss(
                found.transpose(0, 1),
                torch.tensor(targets),
                frames,
                torch.tensor([len(text) for _, text in batch]),
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch) / len(rows)
        losses.append(total)
        print(f"epoch {epoch + 1}: loss {total:.3f}")
    with torch.no_grad():
        found, frames = log_probs(rows[:4])
    for (path, text), best, n in zip(rows, found.argmax(-1), frames, strict=False):
        path_letters = best[:n].unique_consecutive().tolist()
        heard = "".join(letters[i - 1] for i in path_letters if i)
        print(f"{path}: {heard!r}, expected {text!r}")
    return losses


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
