"""What a careful user would otherwise write: one process per trial, a Hugging Face BertModel, PCGrad as published.

    python tests/benchmarks/plain.py --encoder FOLDER --data FOLDER --steps 150 --seed 11 --training joint --surgery pcgrad ...

prints the trial's metrics as JSON. Knows nothing of `ablate`. Reads `<task>-<split>.csv` with id, sentence (or sentence1,
sentence2) and label from the data's folder; pads each batch to its longest sentence; attention is SDPA, the optimizer fused
AdamW with linear warm-up and decay, gradients are clipped at 1.
"""

import argparse
import copy
import csv
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

TASKS = ("sentiment", "paraphrase", "similarity")


class MultitaskBert(nn.Module):
    """One BERT, a head per task; the same heads and losses as `ablate.trainer` has."""

    def __init__(
        self,
        bert: PreTrainedModel,
        dense: int,
        paraphrase: str,
        similarity: str,
        pooling: str,
        dropout: float,
    ) -> None:
        super().__init__()
        hidden: int = bert.config.hidden_size
        self.bert, self.pooling, self.difference, self.siamese = (
            bert,
            pooling,
            paraphrase == "difference",
            similarity == "siamese",
        )
        self.dropout = nn.Dropout(dropout)

        def head(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                self.dropout,
                nn.Linear(inputs, dense),
                nn.GELU(),
                self.dropout,
                nn.Linear(dense, outputs),
            )

        self.heads = nn.ModuleDict(
            {
                "sentiment": head(hidden, 5),
                "paraphrase": head(hidden * (3 if self.difference else 2), 1),
                "similarity": nn.Linear(hidden, dense) if self.siamese else head(hidden * 2, 1),
            }
        )
        if not self.siamese:
            nn.init.constant_(self.heads.get_parameter("similarity.4.bias"), 2.5)

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[sentences, longest] -> [sentences, hidden], fp32."""
        states: Tensor = self.bert(ids, attention_mask=mask).last_hidden_state.float()
        if self.pooling == "cls":
            return states[:, 0]
        return (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)

    def head(self, task: str, features: Tensor) -> Tensor:
        output: Tensor = self.heads[task](features)
        return output

    def predict(self, task: str, embedded: Tensor) -> Tensor:
        """Embeddings of a batch, first sentences, then second ones -> logits or similarities."""
        if task == "sentiment":
            return self.head(task, embedded)
        u, v = embedded.chunk(2)
        if task == "paraphrase":
            features = [u, v, (u - v).abs()] if self.difference else [u, v]
            return self.head(task, torch.cat(features, 1)).squeeze(1)
        if self.siamese:
            u, v = self.head(task, self.dropout(embedded)).chunk(2)
            return 5 * functional.cosine_similarity(u, v)
        return self.head(task, torch.cat([u, v], 1)).squeeze(1)

    def loss(self, task: str, embedded: Tensor, labels: Tensor) -> Tensor:
        """The batch's mean loss."""
        output = self.predict(task, embedded)
        if task == "sentiment":
            return functional.cross_entropy(output, labels.long())
        if task == "paraphrase":
            return functional.binary_cross_entropy_with_logits(output, labels.float())
        return functional.mse_loss(output, labels.float())


def pc_backward(optimizer: torch.optim.Optimizer, losses: list[Tensor]) -> None:
    """Set `.grad` to the sum of the projected gradients (Yu et al. 2020), in the way of the widely used
    github.com/WeiChengTseng/Pytorch-PCGrad: a backward pass per task through a kept graph, whole gradients."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients, present = [], []
    for loss in losses:
        optimizer.zero_grad(set_to_none=True)
        loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        found = [(p.grad, 1.0) if p.grad is not None else (torch.zeros_like(p), 0.0) for p in parameters]
        gradients.append(torch.cat([gradient.clone().flatten() for gradient, _ in found]))
        present.append(torch.cat([torch.full_like(gradient, has).flatten() for gradient, has in found]))
    shared = torch.stack(present).prod(0).bool()
    projected = copy.deepcopy(gradients)
    for own in projected:
        random.shuffle(gradients)
        for other in gradients:
            product = torch.dot(own, other)
            if product < 0:
                own -= product * other / other.norm() ** 2
    merged = torch.zeros_like(gradients[0])
    merged[shared] = torch.stack([gradient[shared] for gradient in projected]).sum(0)
    merged[~shared] = torch.stack([gradient[~shared] for gradient in projected]).sum(0)
    start = 0
    for parameter in parameters:
        parameter.grad = merged[start : start + parameter.numel()].view_as(parameter).clone()
        start += parameter.numel()


def pad(sentences: list[list[int]], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, [sentences, longest]."""
    longest = max(map(len, sentences))
    ids = torch.tensor([sentence + [0] * (longest - len(sentence)) for sentence in sentences], device=device)
    lengths = torch.tensor([len(sentence) for sentence in sentences], device=device)
    return ids, (torch.arange(longest, device=device) < lengths[:, None]).long()


# One trial --------------------------------------------------------------------------------------------------


@dataclass
class Split:
    """Tokenised items of a task: one or two columns of sentences, and labels."""

    columns: list[list[list[int]]]
    labels: list[float]

    def batch(self, rows: list[int]) -> tuple[list[list[int]], Tensor]:
        """First sentences, then second ones; labels."""
        return [column[row] for column in self.columns for row in rows], torch.tensor(
            [self.labels[r] for r in rows]
        )


def read(folder: Path, task: str, split: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Split:
    with open(folder / f"{task}-{split}.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    fields = ["sentence"] if task == "sentiment" else ["sentence1", "sentence2"]
    columns = [
        tokenizer([row[field] for row in rows], truncation=True, max_length=max_length)["input_ids"]
        for field in fields
    ]
    return Split(columns, [float(row["label"]) for row in rows])


def batches(items: Split, size: int, reshuffle: bool, seed: int) -> Iterator[list[int]]:
    draw, order = random.Random(seed), list(range(len(items.labels)))
    draw.shuffle(order)
    while True:
        yield from (order[start : start + size] for start in range(0, len(order), size))
        if reshuffle:
            draw.shuffle(order)


def evaluate(model: MultitaskBert, task: str, items: Split) -> float:
    model.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(items.labels), 64):
            sentences, _ = items.batch(list(range(start, min(start + 64, len(items.labels)))))
            found.append(model.predict(task, model.embed(*pad(sentences))))
    model.train()
    predicted, gold = torch.cat(found), np.array(items.labels)
    if task == "similarity":
        return float(np.corrcoef(predicted.numpy(), gold)[0, 1])
    chosen = predicted.argmax(1) if task == "sentiment" else predicted > 0
    return float((chosen.numpy() == gold).mean())


def train(
    args: argparse.Namespace, tasks: tuple[str, ...], data: dict[tuple[str, str], Split]
) -> dict[str, float]:
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    bert = AutoModel.from_pretrained(
        args.encoder,
        dtype=torch.float32,
        hidden_dropout_prob=args.dropout,
        attention_probs_dropout_prob=args.dropout,
        add_pooling_layer=False,
    )
    model = MultitaskBert(bert, args.dense, args.paraphrase, args.similarity, args.pooling, args.dropout)
    heads = [p for task in tasks for p in model.heads[task].parameters()]
    trained = [*model.bert.parameters(), *heads]
    groups = [
        {
            "params": [p for p in found if (p.ndim > 1) is matrices],
            "lr": lr,
            "weight_decay": args.l2 * matrices,
        }
        for found, lr in ((list(model.bert.parameters()), args.lr), (heads, 1e-3))
        for matrices in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, fused=True)
    rising: int = round(0.1 * args.steps)

    def rate(step: int) -> float:
        """As transformers' linear schedule, one step on: theirs has a rate of 0 first, which of 15 steps would waste one."""
        return (step + 1) / rising if step < rising else (args.steps - step) / (args.steps - rising)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    streams = {
        task: batches(data[task, "train"], size, args.reshuffle, args.seed)
        for task, size in zip(TASKS, args.batch, strict=True)
        if task in tasks
    }
    model.train()
    metrics: dict[str, float] = {}
    for step in range(args.steps):
        losses = []
        for task, stream in streams.items():
            sentences, labels = data[task, "train"].batch(next(stream))
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                embedded = model.embed(*pad(sentences))
            losses.append(model.loss(task, embedded, labels))
        if args.surgery == "pcgrad":
            pc_backward(optimizer, losses)
        else:
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if (step + 1) % (args.eval_every or args.steps) == 0 or step + 1 == args.steps:
            metrics = {f"dev/{task}": evaluate(model, task, data[task, "dev"]) for task in tasks}
    return metrics


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--encoder", required=True)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--steps", type=int, required=True)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--training", choices=("separate", "joint"), default="separate")
    options.add_argument("--surgery", choices=("none", "pcgrad"), default="none")
    options.add_argument("--paraphrase", choices=("concat", "difference"), default="concat")
    options.add_argument("--similarity", choices=("concat", "siamese"), default="concat")
    options.add_argument("--dense", type=int, default=256)
    options.add_argument("--batch", type=int, nargs=3, default=(16, 16, 16))
    options.add_argument("--reshuffle", action="store_true")
    options.add_argument("--l2", type=float, default=0.0)
    options.add_argument("--lr", type=float, default=2e-5)
    options.add_argument("--dropout", type=float, default=0.1)
    options.add_argument("--pooling", choices=("cls", "mean"), default="cls")
    options.add_argument("--max-length", type=int, default=128)
    options.add_argument("--eval-every", type=int, default=0)
    options.add_argument("--bf16", action="store_true")
    args = options.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.encoder)
    data = {
        (task, split): read(args.data, task, split, tokenizer, args.max_length)
        for task in TASKS
        for split in ("train", "dev")
    }
    groups = [(task,) for task in TASKS] if args.training == "separate" else [TASKS]
    metrics: dict[str, float] = {}
    for tasks in groups:
        metrics |= train(args, tasks, data)
    values = [metrics["dev/sentiment"], metrics["dev/paraphrase"], (metrics["dev/similarity"] + 1) / 2]
    print(json.dumps(metrics | {"dev/mean": sum(values) / 3}))


if __name__ == "__main__":
    main()
