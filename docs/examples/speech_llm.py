"""A projector between an ensemble and a language model: python speech_llm.py ENCODER LM TABLE.

The encoder and the language model are frozen; a projector, which makes one embedding of four
frames, learns to put speech before the text. LM is any causal language model of transformers.
"""

import sys

import soundfile
import torch
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
)

import espnet_ensemble  # noqa: F401, AutoModel knows ensembles from here on

FRAMES = 4  # in an embedding


def main(encoder: str, lm: str, table: str, epochs: int = 20) -> list[float]:
    """Train, and return the mean loss of each epoch."""
    torch.manual_seed(0)
    with open(table, encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    model = AutoModel.from_pretrained(encoder)
    extractor = AutoFeatureExtractor.from_pretrained(encoder)
    language_model = AutoModelForCausalLM.from_pretrained(lm).requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(lm)
    size = language_model.config.hidden_size
    projector = torch.nn.Sequential(
        torch.nn.Linear(FRAMES * model.output_dim, size),
        torch.nn.GELU(),
        torch.nn.Linear(size, size),
    )
    optimizer = torch.optim.Adam(projector.parameters(), lr=0.003)
    losses = []
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(rows)).split(8):
            batch = [rows[index] for index in batch]
            audio = [soundfile.read(path, dtype="float32")[0] for path, _ in batch]
            inputs = extractor(
                audio,
                sampling_rate=model.sampling_rate,
                padding=True,
                return_tensors="pt",
            )
            output = model(**inputs)
            feats = output.last_hidden_state
            feats = torch.nn.functional.pad(feats, (0, 0, 0, -feats.size(1) % FRAMES))
            speech = projector(feats.unflatten(1, (-1, FRAMES)).flatten(2))
            frames = output.attention_mask.sum(dim=1, keepdim=True)
            place = torch.arange(speech.size(1))
            heard = place < -(-frames // FRAMES)

            texts = [text + tokenizer.eos_token for _, text in batch]
            text = tokenizer(texts, padding=True, return_tensors="pt")
            ignored = text.input_ids.masked_fill(text.attention_mask == 0, -100)
            loss = language_model(
                inputs_embeds=torch.cat(
                    [speech, language_model.get_input_embeddings()(text.input_ids)], 1
                ),
                attention_mask=torch.cat([heard.long(), text.attention_mask], dim=1),
                labels=torch.cat([torch.full(heard.shape, -100), ignored], dim=1),
            ).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch) / len(rows)
        losses.append(total)
        print(f"epoch {epoch + 1}: loss {total:.3f}")
    return losses


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
