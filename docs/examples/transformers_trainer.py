"""A transformers `Trainer` under ablate: a tiny BERT learns which half of the vocabulary most words of a sentence come from.

Lines marked `# ablate` are there for ablate alone."""

import numpy as np
from datasets import Dataset
from pydantic import BaseModel
from transformers import BertConfig, BertForSequenceClassification, EvalPrediction, Trainer, TrainingArguments

import ablate.adapters.transformers  # ablate


class Settings(BaseModel, extra="forbid"):
    lr: float = 5e-3
    dropout: float = 0.1
    scheduler: str = "linear"
    steps: int = 60


def train(settings: Settings, context) -> dict[str, float]:
    args = TrainingArguments(
        max_steps=settings.steps,
        per_device_train_batch_size=32,
        learning_rate=settings.lr,
        lr_scheduler_type=settings.scheduler,
        warmup_steps=10,
        logging_steps=10,
        eval_strategy="steps",
        eval_steps=20,
    )
    trainer = Trainer(
        model_init=lambda: tiny_bert(settings.dropout),
        args=args,
        train_dataset=sentences(np.random.default_rng(0), 1000),
        eval_dataset=sentences(np.random.default_rng(1), 300),
        compute_metrics=accuracy,
    )
    return ablate.adapters.transformers.fit(trainer, context, predictions="accuracy")  # ablate


def tiny_bert(dropout: float) -> BertForSequenceClassification:
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=16,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=16,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def sentences(rng: np.random.Generator, n: int) -> Dataset:
    """Return sentences of nine words; the label says whether more of them are from the first half of the vocabulary."""
    words = rng.integers(0, 16, (n, 9))
    labels = (words < 8).sum(axis=1) > 4
    return Dataset.from_dict(
        {
            "id": [f"s{i}" for i in range(n)],
            "input_ids": words.tolist(),
            "labels": labels.astype(int).tolist(),
        }
    )


def accuracy(evaluation: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float(np.mean(np.argmax(evaluation.predictions, axis=1) == evaluation.label_ids))}
