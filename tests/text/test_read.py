from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from graft.errors import ModelError
from graft.files import JSON_BYTES
from graft.text import Frame, Tokenizer

Folder = Callable[..., Path]
Library = Callable[..., tokenizers.Tokenizer]
BERT = Frame(start=("cls_token",), between=("sep_token",), end=("sep_token",), types=True)
PAD, UNK, CLS, SEP, MASK, A, B, C = range(8)


def word_level(*words: str) -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0])
    )
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return library


def test_stored_truncation_and_padding_are_off(json_folder: Folder) -> None:
    library = word_level("[UNK]", "[CLS]", "[SEP]", "[PAD]", "x")
    library.enable_truncation(5)
    library.enable_padding(length=9, pad_id=3)
    library.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer = Tokenizer.from_folder(json_folder(library), BERT)
    assert [encoding.ids for encoding in tokenizer.encode(["x", "x " * 20])] == [[1, 4, 2], [1, *[4] * 20, 2]]


def test_dropout_is_off(json_folder: Folder, byte_level: Library) -> None:
    library = byte_level()
    library.model.dropout = 0.9
    tokenizer = Tokenizer.from_folder(json_folder(library), Frame())
    assert len({tuple(encoding.ids) for encoding in tokenizer.encode(["the cat sat on the mat"] * 50)}) == 1


@pytest.mark.parametrize(
    ("words", "config", "ids"),
    [
        (["[UNK]", "Cat", "cat"], {}, [1, 2, 2, 0]),
        (["[UNK]", "cat", "dog"], {}, [1, 1, 1, 1]),
        (["[UNK]", "Cat", "cat"], {"do_lower_case": True}, [2, 2, 2, 2]),
        (["[UNK]", "cat", "Çat"], {"do_lower_case": False}, [0, 1, 1, 2]),
        (["[UNK]", "cat", "çat"], {"strip_accents": False}, [1, 1, 1, 2]),
    ],
    ids=["cased", "uncased", "asked lower", "asked cased", "accents kept"],
)
def test_vocab_txt_is_lowered_as_the_folder_says(
    word_folder: Folder, words: list[str], config: Any, ids: list[int]
) -> None:
    tokenizer = Tokenizer.from_folder(word_folder(words, tokenizer_config=config), Frame())
    assert tokenizer.encode(["Cat cat cat Çat"])[0].ids == ids


@pytest.mark.parametrize(("said", "ids"), [({}, [0]), ({"do_lower_case": True}, [1])])
def test_the_models_configuration_may_say_how_vocab_txt_is_lowered(
    word_folder: Folder, said: dict[str, Any], ids: list[int]
) -> None:
    folder = word_folder(["[UNK]", "cat", "Cat"], config={"do_lower_case": False}, tokenizer_config=said)
    assert Tokenizer.from_folder(folder, Frame()).encode(["CAT"])[0].ids == ids


def test_added_tokens_of_old_folders(word_folder: Folder) -> None:
    extra = 16
    tokenizer = Tokenizer.from_folder(word_folder(added_tokens={"<x>": extra, "<y>": extra + 1}), BERT)
    assert tokenizer.encode(["a<y>"])[0].ids == [CLS, A, extra + 1, SEP]
    decoder = {str(extra): {"content": "<z>", "special": True, "lstrip": True}}
    tokenizer = Tokenizer.from_folder(word_folder(tokenizer_config={"added_tokens_decoder": decoder}), BERT)
    assert tokenizer.decode([A, extra, B]) == "a b"


@pytest.mark.parametrize("table", [{"<x>": 99}, {"<x>": "one"}, {"<x>": None}])
def test_added_tokens_that_do_not_fit_are_refused(word_folder: Folder, table: Any) -> None:
    with pytest.raises(ModelError, match="added token"):
        Tokenizer.from_folder(word_folder(added_tokens=table), BERT)


def write_pairs(folder: Path, vocab: Any, merges: str) -> Path:
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    return folder


def test_vocab_json_with_merges_is_byte_level(byte_level: Library, tmp_path: Path) -> None:
    source = byte_level()
    stored = json.loads(source.to_str())["model"]
    merges = "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in stored["merges"]) + "\n"
    tokenizer = Tokenizer.from_folder(write_pairs(tmp_path, stored["vocab"], merges), Frame())
    text = "the cat 🦙 <|endoftext|>"
    assert tokenizer.encode([text])[0].ids == source.encode(text).ids
    assert tokenizer.decode(tokenizer.encode([text])[0].ids) == "the cat 🦙 "


def test_vocab_json_of_gpt1_is_by_characters(tmp_path: Path) -> None:
    vocab = {"<unk>": 0, "c": 1, "a": 2, "t</w>": 3, "ca": 4, "cat</w>": 5, "t": 6, "!</w>": 7}
    tokenizer = Tokenizer.from_folder(write_pairs(tmp_path, vocab, "#version: 0.2\nc a\nca t</w>\n"), Frame())
    assert tokenizer.encode(["CAT!"])[0].ids == [5, 7]
    assert tokenizer.decode([5, 7]) == "cat !"


GPT1_PAIRS = ({"c": 1, "a": 2, "t</w>": 3, "ca": 4, "<unk>": 0, "t": 6, "Ġ": 5}, "#version: 0.2\nc a\n")


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ({"tokenizer_config": {"tokenizer_class": "OpenAIGPTTokenizer"}}, [4, 3, 0, 0]),
        ({"config": {"model_type": "openai-gpt"}}, [4, 3, 0, 0]),
        (
            {"config": {"model_type": "gpt2"}, "tokenizer_config": {"tokenizer_class": "OpenAIGPTTokenizerFast"}},
            [4, 3, 0, 0],
        ),
        ({}, [4, 3, 0, 0]),
        ({"config": {"model_type": "gpt2"}}, [4, 6, 5]),
        ({"config": {"model_type": "openai-gpt"}, "tokenizer_config": {"tokenizer_class": "GPT2Tokenizer"}}, [4, 6, 5]),
    ],
)
def test_the_folder_says_whether_pairs_are_of_gpt1(tmp_path: Path, files: Any, ids: list[int]) -> None:
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer = Tokenizer.from_folder(write_pairs(tmp_path, *GPT1_PAIRS), Frame())
    assert tokenizer.encode(["cat 🦙x" if ids[-1] == 0 else "cat "])[0].ids == ids


@pytest.mark.parametrize("config", [{}, {"mask_token": "<mask>"}])
def test_the_mask_of_old_roberta_folders_takes_the_space_before_it(
    byte_level: Library, tmp_path: Path, config: Any
) -> None:
    model = json.loads(byte_level().to_str())["model"]
    merges = "".join(" ".join(pair) + "\n" for pair in model["merges"])
    write_pairs(tmp_path, {**model["vocab"], "<mask>": len(model["vocab"])}, merges)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = Tokenizer.from_folder(tmp_path, Frame())
    ids = tokenizer.encode(["the <mask> cat"])[0].ids
    assert tokenizer.decode(ids, special=True) == "the<mask> cat"


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        (
            {"a": 0, "b": 1},
            "#version: 0.2\na b c\n",
            "merges.txt, line 2: expected two tokens and a space, found 'a b c'",
        ),
        ({"a": 0, "b": 1}, "a b\n", "line 1: 'ab' is not in vocab.json"),
        ({"a": "x"}, "", "the token 'a' has id 'x', expected a number"),
        ({"a": -1}, "", "the token 'a' has id -1, expected a number"),
        (["a"], "", "expected a JSON object, found list"),
    ],
)
def test_damaged_pairs_are_refused(tmp_path: Path, vocab: Any, merges: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Tokenizer.from_folder(write_pairs(tmp_path, vocab, merges), Frame())


def test_a_vocabulary_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(ModelError, match=r"vocab\.txt: cannot be read as UTF-8"):
        Tokenizer.from_folder(tmp_path, Frame())


@pytest.mark.parametrize("name", ["vocab.txt", "chat_template.jinja"])
def test_a_text_file_that_is_too_large_is_refused(word_folder: Folder, name: str) -> None:
    folder = word_folder()
    with (folder / name).open("ab") as file:
        file.truncate(JSON_BYTES + 1)
    with pytest.raises(ModelError, match=rf"{re.escape(name)}: {JSON_BYTES + 1} bytes, expected at most {JSON_BYTES}"):
        Tokenizer.from_folder(folder, BERT)


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_is_no_fault_of_the_tokenizer(bert: Tokenizer) -> None:
    """A signal that comes while the library runs, some tenths of a second, is answered where its errors are."""
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            bert.encode(["a b c " * 100_000])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_no_tokenizer_names_what_was_looked_for_and_found(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.bin").write_bytes(b"")
    (tmp_path / "vocab.json").write_text("{}", encoding="utf-8")
    expected = (
        r"Looked for tokenizer\.json, vocab\.txt, vocab\.json with merges\.txt, "
        r"spiece\.model, sentencepiece\.bpe\.model, tokenizer\.model; found tokenizer\.bin, vocab\.json\. Sav"
    )
    with pytest.raises(ModelError, match=expected):
        Tokenizer.from_folder(tmp_path, Frame())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a valid JSON"),
        ("[]", "expected a JSON object"),
        ('{"version": "1.0", "version": "1.0"}', "'version' is given twice"),
        ('{"version": "1.0"}', "cannot be built: Model missing"),
        ('{"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":[["a","b"]]}}', "`b` out of vocabulary"),
        ('{"model":{"type":"Unigram","unk_id":9,"vocab":[["a",0.0]]}}', "cannot be built"),
        (
            '{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(("},"behavior":"Isolated","invert":false}}',
            "cannot be built",
        ),
        ("[" * 100_000, "nested too deep"),
    ],
    ids=range(8),
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        Tokenizer.from_folder(tmp_path, Frame())


def test_replacements_that_multiply_are_refused(json_folder: Folder, byte_level: Library) -> None:
    library = byte_level()
    library.normalizer = normalizers.Sequence([normalizers.Replace("a", "aa") for _ in range(60)])
    with pytest.raises(ModelError, match="more than 64 times longer; it is made to do harm"):
        Tokenizer.from_folder(json_folder(library), Frame())


def test_harmless_replacements_pass(json_folder: Folder, byte_level: Library) -> None:
    library = byte_level()
    library.normalizer = normalizers.Sequence(
        [normalizers.Replace("``", '"'), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteLevel()])
    tokenizer = Tokenizer.from_folder(json_folder(library), Frame())
    assert tokenizer.decode(tokenizer.encode(["``the    cat"])[0].ids) == '"the cat'


def test_endless_words_are_refused(json_folder: Folder) -> None:
    library = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]", max_input_chars_per_word=10**9))
    with pytest.raises(ModelError, match="max_input_chars_per_word is above 1000"):
        Tokenizer.from_folder(json_folder(library), Frame())


def test_an_exponential_pattern_ends_in_an_error(json_folder: Folder, byte_level: Library) -> None:
    library = byte_level()
    library.pre_tokenizer = pre_tokenizers.Split(Regex(r"(a+)+$"), "isolated")
    tokenizer = Tokenizer.from_folder(json_folder(library), Frame())
    started = time.perf_counter()
    with pytest.raises(ModelError, match="fails on one of the texts 0 to 1: .*retry-limit"):
        tokenizer.encode(["the cat", "a" * 5000 + "!"])
    assert time.perf_counter() - started < 20
    assert tokenizer.encode(["the cat"])[0].ids


def test_a_word_without_an_unknown_token_is_an_error(json_folder: Folder) -> None:
    library = tokenizers.Tokenizer(models.WordPiece({"a": 0}, unk_token="[UNK]"))
    tokenizer = Tokenizer.from_folder(json_folder(library), Frame())
    with pytest.raises(ModelError, match=r"the tokenizer fails .*Missing \[UNK\]"):
        tokenizer.encode(["b"])


@pytest.mark.parametrize(("longest", "refused"), [(64, False), (65, True)])
def test_tables_of_replacements_that_multiply_are_refused(
    json_folder: Folder, byte_level: Library, longest: int, refused: bool
) -> None:
    library = byte_level()
    trie = bytes(4 * 256)
    table = len(trie).to_bytes(4, "little") + trie + b"a" * longest + b"\0"
    library.normalizer = normalizers.Sequence([normalizers.Precompiled(table)])
    folder = json_folder(library)
    if refused:
        with pytest.raises(ModelError, match="more than 64 times longer"):
            Tokenizer.from_folder(folder, Frame())
    else:
        assert Tokenizer.from_folder(folder, Frame()).encode(["the"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        " ",
        "a",
        "\r\n",
        "'",
        "1",
        "e\u0301\u0301",
        "中",
        "🦙",
        "\u200d",
        "a ",
        "[SEP]",
        "<|endoftext|>",
        "'s",
        "\u0301",
        "▁",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("kind", ["word pieces", "byte pairs", "unigram", "bpe"])
def test_time_is_linear_in_the_text(
    word_folder: Folder,
    piece_folder: Folder,
    piece_model: Callable[..., bytes],
    byte_level: Library,
    kind: str,
    unit: str,
) -> None:
    if kind == "word pieces":
        tokenizer = Tokenizer.from_folder(word_folder(), BERT)
    elif kind in ("unigram", "bpe"):
        tokenizer = Tokenizer.from_folder(piece_folder(piece_model(model_type=kind)), Frame())
    else:
        tokenizer = Tokenizer(byte_level(), Frame())
    characters = 25_000 // len(unit[0].encode())
    short = (unit * characters)[:characters]

    def seconds(text: str) -> float:
        started = time.process_time()
        tokenizer.encode([text])
        return time.process_time() - started

    def growth() -> float:
        return min(seconds(short * 4) for _ in range(3)) / min(seconds(short) for _ in range(5))

    assert any(growth() <= 2.5**2 for _ in range(4)), "four times the text takes more than 2.5 x 2.5 times as long"
