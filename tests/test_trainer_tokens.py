"""Tokens: once per study, whole or not at all, the same whoever asks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import not_none

from ablate.errors import AblateError, BadInput, Unavailable
from ablate.trainer.data import hub, tokens
from ablate.trainer.data.reading import examples
from ablate.trainer.data.sources import Source
from ablate.trainer.data.tokens import Ragged, load_tokens
from ablate.trainer.tasks.registry import TASKS

FEW = {task: Source(limit={"train": 60, "dev": 20, "test": 20}) for task in TASKS.values()}
REVIEWS, PAIRS = TASKS["sentiment"], TASKS["paraphrase"]
SENTIMENT = {REVIEWS: FEW[REVIEWS]}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    load_tokens(FEW, "tiny", 32, folder)
    return folder


@pytest.fixture
def cache(built: Path, tmp_path: Path) -> Path:
    """A cache of its own that holds FEW already."""
    return shutil.copytree(built, tmp_path / "cache")


@pytest.fixture
def no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From here on, whatever needs the tokenizer itself fails."""

    def use() -> None:
        monkeypatch.setattr(tokens, "make_tokenizer", None)

    return use


# Rows end to end


@pytest.fixture
def ragged() -> Ragged:
    return Ragged(np.array([5, 6, 7, 8, 9, 10], np.int32), np.array([0, 2, 3, 6], np.int64))


def test_take_gives_rows_in_the_order_asked_for(ragged: Ragged) -> None:
    taken, lengths = ragged.take([2, 0, 2])
    assert taken.tolist() == [8, 9, 10, 5, 6, 8, 9, 10]
    assert lengths.tolist() == [3, 2, 3]


def test_take_nothing(ragged: Ragged) -> None:
    taken, lengths = ragged.take([])
    assert (len(taken), len(lengths)) == (0, 0)


def test_length_counts_rows(ragged: Ragged) -> None:
    assert len(ragged) == 3
    assert ragged.lengths.tolist() == [2, 1, 3]


# What is in them


def test_every_task_and_split(cache: Path) -> None:
    found = load_tokens(FEW, "tiny", 32, cache)
    assert {
        task: {name: split.n for name, split in splits.items()} for task, splits in found.tasks.items()
    } == {task: {"train": 60, "dev": 20} for task in TASKS}


def test_tokens_say_what_the_text_says(cache: Path) -> None:
    from transformers import AutoTokenizer

    found = load_tokens(FEW, "tiny", 32, cache)
    found.save_tokenizer(cache / "model")
    tokenizer = AutoTokenizer.from_pretrained(cache / "model")
    split, text = found.tasks["paraphrase"]["dev"], examples(FEW[PAIRS], PAIRS, "dev")
    assert split.ids == text.ids
    assert np.array_equal(not_none(split.labels), not_none(text.labels))
    for row in (0, 7):
        taken, _ = not_none(split.second).take([row])
        assert tokenizer.decode(taken) == f"[CLS] {not_none(text.second)[row]} [SEP]"
        assert tokenizer(not_none(text.second)[row])["input_ids"] == taken.tolist()


def test_no_row_is_longer_than_asked_and_each_ends_as_it_should(cache: Path) -> None:
    first = load_tokens(SENTIMENT, "tiny", 6, cache).tasks["sentiment"]["train"].first
    assert first.lengths.max() == 6
    assert len(set(first.tokens[first.offsets[:-1]])) == len(set(first.tokens[first.offsets[1:] - 1])) == 1


def test_single_sentences_have_no_second(cache: Path) -> None:
    assert load_tokens(SENTIMENT, "tiny", 32, cache).tasks["sentiment"]["dev"].second is None


def test_tiny_has_a_small_vocabulary_and_knows_every_word_of_the_training_text(cache: Path) -> None:
    found = load_tokens(FEW, "tiny", 32, cache)
    assert found.vocab_size < 400
    unknown = 1
    assert not any(np.isin(unknown, s.first.tokens) for t in found.tasks.values() for s in t.values())


def test_tiny_is_capped(tmp_path: Path) -> None:
    rows = "".join(f"w{n}q{n * 7919} x{n * 104729},{n % 5}\n" for n in range(6000))
    (tmp_path / "train.csv").write_text("text,label\n" + rows)
    found = load_tokens({REVIEWS: Source(files=f"{tmp_path}/{{split}}.csv")}, "tiny", 32, tmp_path, ["train"])
    assert found.vocab_size == 8000


def test_a_part_has_the_tokens_of_the_whole(cache: Path) -> None:
    part, whole = (load_tokens(sources, "tiny", 32, cache) for sources in (SENTIMENT, FEW))
    mine, its = (found.tasks["sentiment"]["train"].first.tokens for found in (part, whole))
    assert np.array_equal(mine, its)


# The cache


def test_the_second_time_nothing_is_tokenised(cache: Path, no_tokenizer: Callable[[], None]) -> None:
    first = load_tokens(FEW, "tiny", 32, cache)
    no_tokenizer()
    again = load_tokens(FEW, "tiny", 32, cache)
    assert (again.facts["data"], again.tokenizer_hash) == (first.facts["data"], first.tokenizer_hash)


def test_the_same_bytes_from_another_process_with_another_hash_seed(tmp_path: Path) -> None:
    here = load_tokens(FEW, "tiny", 32, tmp_path / "here")
    assert loaded_elsewhere(tmp_path / "there", PYTHONHASHSEED="1") == [
        f"{here.tokenizer_hash} {here.facts['data']}"
    ]
    assert names(tmp_path / "here") == names(tmp_path / "there")


def test_processes_that_race_agree(tmp_path: Path) -> None:
    assert len(set(loaded_elsewhere(tmp_path / "cache", processes=3))) == 1
    assert not [name for name in names(tmp_path / "cache") if name.startswith(".")]


@pytest.mark.parametrize("change", [{"max_length": 16}, {"limit": {"train": 59}}])
def test_what_decides_the_content_decides_the_folder(cache: Path, change: dict[str, Any]) -> None:
    source = Source(limit=change.get("limit", {"train": 60}))
    load_tokens(SENTIMENT, "tiny", 32, cache, ["train"])
    before = names(cache)
    load_tokens({REVIEWS: source}, "tiny", change.get("max_length", 32), cache, ["train"])
    assert names(cache) > before


def test_changed_data_changes_the_hash(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\nfine,3\ndull,1\n")
    sources = {REVIEWS: Source(files=f"{tmp_path}/{{split}}.csv")}
    before = load_tokens(sources, "tiny", 32, tmp_path, ["train"]).facts["data"]
    (tmp_path / "train.csv").write_text("text,label\nfine,3\ndull,0\n")
    assert load_tokens(sources, "tiny", 32, tmp_path, ["train"]).facts["data"] != before


@pytest.mark.parametrize("victim", ["first.tokens.npy", "labels.npy", "ids.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_cache_is_built_again(cache: Path, victim: str, damage: str) -> None:
    whole = load_tokens(SENTIMENT, "tiny", 32, cache, ["train"])
    expected = whole.tasks["sentiment"]["train"].first.tokens.copy()
    file = next(cache.glob(f"tokens-*/{victim}"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flip" else content[:-3])
    again = load_tokens(SENTIMENT, "tiny", 32, cache, ["train"])
    assert np.array_equal(again.tasks["sentiment"]["train"].first.tokens, expected)
    assert again.facts["data"] == whole.facts["data"]
    assert not [name for name in names(cache) if name.startswith(".")]


def test_a_failed_write_leaves_nothing_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(
        AblateError, match="No space left on device; free some space, or choose another --home"
    ):
        load_tokens(SENTIMENT, "tiny", 32, tmp_path)
    assert [name for name in names(tmp_path) if "tokens" in name] == []


def test_faults_of_the_data_come_through_and_leave_no_tokens(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\nfine,9\ndull,1\n")
    with pytest.raises(BadInput, match="out of range"):
        load_tokens(
            {REVIEWS: Source(files=f"{tmp_path}/{{split}}.csv")}, "tiny", 32, tmp_path / "c", ["train"]
        )
    assert names(tmp_path / "c") == set()


# Encoders


def test_an_encoder_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"encoder: \./nowhere: there is no such folder"):
        load_tokens(SENTIMENT, "./nowhere", 32, tmp_path)


def test_an_encoder_folder_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(BadInput, match=r"encoder: .*model: the folder has no tokenizer"):
        load_tokens(SENTIMENT, str(tmp_path / "model"), 32, tmp_path)


def test_an_encoder_folder_with_a_damaged_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer.json").write_text("{")
    with pytest.raises(BadInput, match=r"encoder: .*model: its tokenizer does not load"):
        load_tokens(SENTIMENT, str(tmp_path / "model"), 32, tmp_path)


def test_a_hub_name_without_network_is_refused_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    hub.hub_answers.cache_clear()
    with pytest.raises(Unavailable, match=r"encoder: no/such-model is not cached on this machine .* HF_HOME"):
        load_tokens(SENTIMENT, "no/such-model", 32, tmp_path)
    hub.hub_answers.cache_clear()
    assert capfd.readouterr() == ("", "")


def test_a_saved_tokenizer_is_an_encoder_folder(tmp_path: Path) -> None:
    found = load_tokens(SENTIMENT, "tiny", 32, tmp_path, ["dev"])
    found.save_tokenizer(tmp_path / "model")
    again = load_tokens(SENTIMENT, str(tmp_path / "model"), 32, tmp_path, ["dev"])
    assert (again.tokenizer_hash, again.vocab_size) == (found.tokenizer_hash, found.vocab_size)


def test_no_warning_when_a_process_forks_after_tokenising(tmp_path: Path) -> None:
    program = (
        "import os, subprocess\n" + LOAD + "\npid = os.fork()\nif not pid: os._exit(0)\nos.waitpid(pid, 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert (done.returncode, done.stderr) == (0, "")


# Real weights and text

ASSETS = os.environ.get("ABLATE_TEST_ASSETS", "")


@pytest.mark.assets
@pytest.mark.skipif(not ASSETS, reason="ABLATE_TEST_ASSETS names no folder with the CS224N files and MiniLM")
def test_the_course_text_with_a_real_tokenizer(tmp_path: Path) -> None:
    sources = {TASKS["similarity"]: Source(files=f"{ASSETS}/data/cs224n/sts-{{split}}.csv.xz", text="course")}
    found = load_tokens(sources, f"{ASSETS}/weights/minilm-l6-h384", 64, tmp_path)
    dev = found.tasks["similarity"]["dev"]
    assert found.vocab_size == 30522
    assert (dev.first.tokens[0], dev.first.tokens[dev.first.offsets[1] - 1]) == (101, 102)
    assert 12 < dev.first.lengths.mean() < 17
    assert dev.first.lengths.max() <= 64


LOAD = """
import sys
from pathlib import Path
from ablate.trainer.data.sources import Source
from ablate.trainer.data.tokens import load_tokens
from ablate.trainer.tasks.registry import TASKS
few = {task: Source(limit={"train": 60, "dev": 20, "test": 20}) for task in TASKS.values()}
found = load_tokens(few, "tiny", 32, Path(sys.argv[1]))
print(found.tokenizer_hash, found.facts["data"])
"""


def loaded_elsewhere(cache: Path, processes: int = 1, **more: str) -> list[str]:
    """Load the tokens of FEW in new processes at once; return the hashes that each prints."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD, str(cache)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment() | more,
        )
        for _ in range(processes)
    ]
    return [process.communicate()[0].strip() for process in started]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_dev_rows_that_are_in_train_too_are_counted(tmp_path: Path) -> None:
    rows = {"train": ["a fine film", "dull"], "dev": ["A  fine film", "a new one"]}
    for split, texts in rows.items():
        lines = [f"{split}{i},{text},{i}" for i, text in enumerate(texts)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["id,sentence,sentiment", *lines]) + "\n")
    source = Source(files=str(tmp_path / "{split}.csv"))
    found = load_tokens({REVIEWS: source}, "tiny", 32, tmp_path / "cache")
    assert found.dev_rows_in_train == {"sentiment": 1}
