from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from graft.errors import ModelError
from graft.text import Encoding, Frame, Tokenizer

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


def test_one_text_is_framed(bert: Tokenizer) -> None:
    assert bert.encode(["a b"]) == [Encoding([CLS, A, B, SEP], [0, 0, 0, 0])]


def test_two_texts_are_framed_and_typed(bert: Tokenizer) -> None:
    assert bert.encode([("a b", "c")]) == [Encoding([CLS, A, B, SEP, C, SEP], [0, 0, 0, 0, 1, 1])]


def test_an_empty_text_leaves_the_frame(bert: Tokenizer) -> None:
    assert [encoding.ids for encoding in bert.encode(["", ("", "a")])] == [[CLS, SEP], [CLS, SEP, A, SEP]]
    assert bert.encode([]) == []


@pytest.mark.parametrize(
    ("frame", "single", "pair", "types"),
    [
        (Frame(), "x", "x y", None),
        (Frame(start=("<s>",), between=("</s>", "</s>"), end=("</s>",)), "<s> x </s>", "<s> x </s> </s> y </s>", None),
        (Frame(between=("eos_token",), end=("eos_token",)), "x </s>", "x </s> y </s>", None),
        (
            Frame(between=("<sep>",), end=("<sep>", "<cls>"), types=True, last_type=2),
            "x <sep> <cls>",
            "x <sep> y <sep> <cls>",
            [0, 0, 1, 1, 2],
        ),
    ],
    ids=["gpt2", "roberta", "t5", "xlnet"],
)
def test_frames_of_other_families(frame: Frame, single: str, pair: str, types: list[int] | None) -> None:
    library = word_level("<unk>", "<s>", "</s>", "<sep>", "<cls>", "x", "y")
    tokenizer = Tokenizer(library, frame)
    one, two = tokenizer.encode(["x", ("x", "y")])
    assert [library.id_to_token(token) for token in one.ids] == single.split()
    assert [library.id_to_token(token) for token in two.ids] == pair.split()
    assert two.types == types


def test_with_frame_shares_the_vocabulary_only(bert: Tokenizer) -> None:
    other = bert.with_frame(Frame(start=("[MASK]",)))
    assert other.encode(["a"]) == [Encoding([MASK, A])]
    assert bert.encode(["a"])[0].ids == [CLS, A, SEP]


@pytest.mark.parametrize("first", ["<b>", {"content": "<b>", "lstrip": False}])
@pytest.mark.parametrize("file", ["tokenizer_config", "special_tokens_map"])
@pytest.mark.parametrize("cls", ["cls_token", "[CLS]"])
def test_a_folder_may_rename_special_tokens(word_folder: Folder, first: Any, file: str, cls: str) -> None:
    words = ["<u>", "<b>", "<e>", "a"]
    names = {"cls_token": first, "sep_token": "<e>", "unk_token": "<u>"}
    folder = word_folder(words, **{file: names})
    tokenizer = Tokenizer.from_folder(folder, Frame(start=(cls,), end=("sep_token",)))
    assert tokenizer.frame == Frame(start=("<b>",), end=("<e>",))
    assert tokenizer.encode(["a zz"])[0].ids == [1, 3, 0, 2]
    assert tokenizer.token_id("cls_token") == 1


def test_tokenizer_config_goes_before_the_special_tokens_map(word_folder: Folder) -> None:
    folder = word_folder(
        tokenizer_config={"cls_token": "[MASK]"},
        special_tokens_map={"cls_token": "[CLS]", "sep_token": "[SEP]"},
    )
    assert Tokenizer.from_folder(folder, BERT).frame.start == ("[MASK]",)


def test_a_missing_special_token_is_named_with_those_there_are(word_folder: Folder) -> None:
    folder = word_folder(["[UNK]", "[SEP]", "[PAD]", "a"])
    with pytest.raises(
        ModelError, match=r"4 tokens has no token 'cls_token'.*'\[PAD\]', '\[SEP\]', '\[UNK\]'.*published"
    ):
        Tokenizer.from_folder(folder, BERT)


def template(single: str, pair: str | None, *names: str) -> processors.TemplateProcessing:
    special = [(name, ["<u>", "<s>", "</s>", "x"].index(name)) for name in names]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)


@pytest.mark.parametrize(
    ("processor", "frame"),
    [
        (template("<s> $A </s>", "<s> $A </s> </s> $B </s>", "<s>", "</s>"), (["<s>"], ["</s>", "</s>"], ["</s>"])),
        (template("<s> $A", "<s> $A <s>:1 $B:1", "<s>"), (["<s>"], ["<s>"], [])),
        (processors.RobertaProcessing(("</s>", 2), ("<s>", 1)), (["<s>"], ["</s>", "</s>"], ["</s>"])),
        (processors.BertProcessing(("</s>", 2), ("<s>", 1)), (["<s>"], ["</s>"], ["</s>"])),
        (processors.ByteLevel(), ([], [], [])),
        (
            processors.Sequence([processors.ByteLevel(), template("<s> $A", "<s> $A $B", "<s>")]),
            (["<s>"], [], []),
        ),
    ],
    ids=["template", "llama", "roberta", "bert", "byte-level", "sequence"],
)
def test_the_folder_says_what_is_put_around(json_folder: Folder, processor: Any, frame: tuple[list[str], ...]) -> None:
    library = word_level("<u>", "<s>", "</s>", "x")
    library.post_processor = processor
    tokenizer = Tokenizer.from_folder(json_folder(library), Frame(start=("[CLS]",), end=("[CLS]",)))
    found = tokenizer.frame
    assert ([*found.start], [*found.between], [*found.end]) == frame
    assert not found.types


def test_types_need_both_the_family_and_the_folder(json_folder: Folder) -> None:
    library = word_level("<u>", "<s>", "</s>", "x")
    with_types = template("<s> $A </s>", "<s> $A </s> $B:1 </s>:1", "<s>", "</s>")
    without = template("<s> $A </s>", "<s> $A </s> $B </s>", "<s>", "</s>")
    for processor, family, types in ((with_types, True, True), (with_types, False, False), (without, True, False)):
        library.post_processor = processor
        frame = Tokenizer.from_folder(json_folder(library), Frame(types=family)).frame
        assert frame == Frame(start=("<s>",), between=("</s>",), end=("</s>",), types=types)


def test_the_last_types_of_the_folder_are_kept(json_folder: Folder) -> None:
    library = word_level("<u>", "<s>", "</s>", "x")
    library.post_processor = template("$A </s>:0 <s>:2", "$A </s>:0 $B:1 </s>:1 <s>:2", "<s>", "</s>")
    tokenizer = Tokenizer.from_folder(json_folder(library), Frame(types=True))
    assert tokenizer.frame == Frame(between=("</s>",), end=("</s>", "<s>"), types=True, last_type=2)
    assert [encoding.types for encoding in tokenizer.encode(["x", ("x", "x")])] == [[0, 0, 2], [0, 0, 1, 1, 2]]


def test_a_template_for_one_text_leaves_pairs_to_the_family(json_folder: Folder) -> None:
    library = word_level("<u>", "<s>", "</s>", "x")
    library.post_processor = template("<s> $A </s>", None, "<s>", "</s>")
    family = Frame(start=("<s>",), between=("</s>",), end=("</s>",), types=True)
    assert Tokenizer.from_folder(json_folder(library), family).frame == family


def test_a_template_no_frame_can_say_is_refused(json_folder: Folder) -> None:
    library = word_level("<u>", "<s>", "</s>", "x")
    library.post_processor = template("<s> $A", "$A $B </s>", "<s>", "</s>")
    with pytest.raises(ModelError, match="around one text, but .* around two: expected the same at both ends"):
        Tokenizer.from_folder(json_folder(library), BERT)


def test_a_template_is_read_where_the_letter_a_is_no_token(json_folder: Folder) -> None:
    library = tokenizers.Tokenizer(models.BPE({"<s>": 0, "</s>": 1, "中": 2}, []))
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer = Tokenizer.from_folder(json_folder(library), Frame())
    assert tokenizer.encode(["中"])[0].ids == [0, 2, 1]
