from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece as theirs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from graft.errors import ModelError
from graft.loading import load
from graft.text import Frame, Tokenizer, sentencepiece

Folder = Callable[..., Path]
Train = Callable[..., bytes]

KINDS: dict[str, dict[str, Any]] = {
    "unigram": {},
    "unigram folded": {"normalization_rule_name": "nmt_nfkc_cf"},
    "unigram bytes": {"byte_fallback": True},
    "unigram own words": {"user_defined_symbols": [".", "(", "<eop>", "the end"], "control_symbols": ["<sep>"]},
    "unigram as it stands": {
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
    },
    "bpe": {"model_type": "bpe"},
    "bpe bytes": {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    },
    "bpe without prefix": {"model_type": "bpe", "add_dummy_prefix": False, "user_defined_symbols": ["<own>"]},
}

WORDS = ["the", "cat", "mat.", "Über", "naïve", "12,345", "中文字", "русский", "(of", "<eop>", "the end", "zq", "🦙▁"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\u00a0", "\u3000", "", ",", ".", "ﬁ", "Ⅷ"]
TEXTS = st.lists(st.sampled_from([*WORDS, *SPACES]), max_size=12).map("".join)


def same(ours: list[int], wanted: list[int], model: theirs.SentencePieceProcessor) -> bool:
    """Equal, or another way of the same score: sentencepiece adds up in single precision, the library in double."""
    if ours == wanted:
        return True
    scores = [sum(model.get_score(token) for token in ids) for ids in (ours, wanted)]
    return len(ours) == len(wanted) and abs(scores[0] - scores[1]) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_read_as_protobuf_reads_it(kind: str, piece_model: Train, tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(piece_model(**as_key(KINDS[kind])))
    proto = sentencepiece_model_pb2.ModelProto.FromString((tmp_path / "spiece.model").read_bytes())
    read = sentencepiece.read(tmp_path / "spiece.model")
    assert read.pieces == [(piece.piece, piece.score, piece.type) for piece in proto.pieces]
    assert read.charsmap == proto.normalizer_spec.precompiled_charsmap
    assert (read.kind, read.byte_fallback) == (proto.trainer_spec.model_type, proto.trainer_spec.byte_fallback)
    rules = proto.normalizer_spec
    assert (read.dummy_prefix, read.remove_spaces) == (rules.add_dummy_prefix, rules.remove_extra_whitespaces)
    assert (read.unknown, read.mark) == (proto.trainer_spec.unk_id, "▁")


def as_key(options: dict[str, Any]) -> dict[str, Any]:
    """Lists as the comma-separated strings the trainer takes too, so that trained models can be kept."""
    return {name: ",".join(value) if isinstance(value, list) else value for name, value in options.items()}


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXTS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_are_those_of_sentencepiece(kind: str, text: str, piece_model: Train, piece_folder: Folder) -> None:
    content = piece_model(**as_key(KINDS[kind]))
    tokenizer, model = cached(content, piece_folder)
    ours, wanted = tokenizer.encode([text])[0].ids, model.encode(text)
    assert same(ours, wanted, model)
    if model.unk_id() not in wanted:
        assert tokenizer.decode(ours) == model.decode(wanted)


SEEN: dict[bytes, tuple[Tokenizer, theirs.SentencePieceProcessor]] = {}


def cached(content: bytes, piece_folder: Folder) -> tuple[Tokenizer, theirs.SentencePieceProcessor]:
    if content not in SEEN:
        folder = piece_folder(content, tokenizer_config={"add_bos_token": False})
        tokenizer = Tokenizer.from_folder(folder, Frame())
        SEEN[content] = tokenizer, theirs.SentencePieceProcessor(model_proto=content)
    return SEEN[content]


def odd_texts(count: int, letters: str) -> Iterator[str]:
    dice = random.Random(7)
    for _ in range(count):
        yield "".join(dice.choice(letters) * dice.choice((1, 1, 1, 2, 3, 9)) for _ in range(dice.randrange(20)))


def test_published_pairs_are_those_of_sentencepiece(shared_data: Path, piece_folder: Folder) -> None:
    content = (shared_data / "models/llama2c_tokenizer/tokenizer.model").read_bytes()
    folder = piece_folder(content, "tokenizer.model", tokenizer_config={"add_bos_token": False})
    tokenizer, model = Tokenizer.from_folder(folder, Frame()), theirs.SentencePieceProcessor(model_proto=content)
    letters = " \t\n▁aab=-3.,é\u0301\u200d\u00a0中文ﬁⅷ🦙ЖΩ가</`'\u2028\ufeff"
    texts = [*odd_texts(4000, letters), *sentences(shared_data)]
    assert [encoding.ids for encoding in tokenizer.encode(texts)] == model.encode(texts)
    decoded = [tokenizer.decode(encoding.ids) for encoding in tokenizer.encode(texts)]
    assert decoded == [text.replace("▁", " ") for text in texts]


def sentences(shared_data: Path) -> list[str]:
    """Published odd texts whole and by lines, and lines of code, without names of control pieces."""
    inputs = (shared_data / "models/reference_tokenizations/gpt-2.inp").read_text(encoding="utf-8")
    code = Path(sentencepiece.__file__).read_text(encoding="utf-8")
    texts = [*inputs.split("\n"), *inputs.split("\n__ggml_vocab_test__\n"), *code.split("\n")]
    return [text for text in texts if not any(name in text for name in ("<s>", "</s>", "<unk>", "<pad>", "<extra_id_"))]


def test_published_unigrams_are_those_of_sentencepiece(shared_data: Path, piece_folder: Folder) -> None:
    content = (shared_data / "models/t5_vocab/t5_tokenizer_base.model").read_bytes()
    tokenizer = Tokenizer.from_folder(piece_folder(content, config={"model_type": "t5"}), Frame())
    model = theirs.SentencePieceProcessor(model_proto=content)
    texts = [*odd_texts(4000, " \t\n▁aab=-3.,é\u00a0中文ﬁⅷ🦙ЖΩ가</`'\u2028\ufeff"), *sentences(shared_data)]
    texts = [text for text in texts if not set(text) & set("\u0301\u200d")]  # replaced by whole graphemes
    wrong = [
        (text, encoding.ids, wanted)
        for text, encoding, wanted in zip(texts, tokenizer.encode(texts), model.encode(texts), strict=True)
        if not same(encoding.ids, wanted, model)
    ]
    assert wrong == []


def test_t5_is_that_of_transformers(shared_data: Path, piece_folder: Folder) -> None:
    import transformers

    content = (shared_data / "models/t5_vocab/t5_tokenizer_base.model").read_bytes()
    folder = piece_folder(content, config={"model_type": "t5"})
    ours = Tokenizer.from_folder(folder, Frame(between=("eos_token",), end=("eos_token",)))
    other = transformers.T5Tokenizer.from_pretrained(folder)
    texts = ["Hello <extra_id_0> there</s> x<extra_id_99>.", *odd_texts(1000, " aab3.,é\u0301\u200d中ﬁ´🦙\n"), "<unk>"]
    assert [encoding.ids for encoding in ours.encode(texts)] == other(texts).input_ids
    assert ours.encode([("a b", "c")])[0].ids == other("a b", "c").input_ids
    assert (ours.vocab_size, ours.token_id("<extra_id_0>"), ours.token_id("<extra_id_99>")) == (32100, 32099, 32000)
    for ids in other(sentences(shared_data)[:400]).input_ids:
        wanted = other.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours.decode(ids) == wanted
    ours.save(folder / "new")
    again = transformers.PreTrainedTokenizerFast.from_pretrained(folder / "new")
    assert again(texts).input_ids == other(texts).input_ids
    assert Tokenizer.from_folder(folder / "new", Frame()).frame == ours.frame


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"config": {"model_type": "t5"}}, 100),
        ({"tokenizer_config": {"tokenizer_class": "T5Tokenizer"}}, 100),
        ({"tokenizer_config": {"tokenizer_class": "T5TokenizerFast", "extra_ids": 7}}, 7),
        ({"config": {"model_type": "mt5"}}, 0),
        ({"config": {"model_type": "mt5"}, "tokenizer_config": {"extra_ids": 3}}, 3),
        ({}, 0),
    ],
)
def test_sentinels_are_as_many_as_the_folder_says(
    files: Any, count: int, piece_model: Train, piece_folder: Folder
) -> None:
    plain = Tokenizer.from_folder(piece_folder(piece_model()), Frame()).vocab_size
    tokenizer = Tokenizer.from_folder(piece_folder(piece_model(), **files), Frame())
    assert tokenizer.vocab_size == plain + count
    if count:
        assert tokenizer.token_id("<extra_id_0>") == plain + count - 1
        assert tokenizer.encode([f"the<extra_id_{count - 1}>"])[0].ids[-1] == plain


def test_sentinels_that_are_pieces_already_keep_their_ids(piece_model: Train, piece_folder: Folder) -> None:
    content = piece_model(user_defined_symbols="<extra_id_0>,<extra_id_1>")
    size = len(theirs.SentencePieceProcessor(model_proto=content))
    tokenizer = Tokenizer.from_folder(piece_folder(content, tokenizer_config={"extra_ids": 3}), Frame())
    assert (tokenizer.vocab_size, tokenizer.token_id("<extra_id_2>")) == (size + 1, size)
    assert tokenizer.token_id("<extra_id_0>") == 3


@pytest.mark.parametrize("count", [-1, 10**9, "many", 1.5])
def test_senseless_sentinels_are_refused(count: Any, piece_model: Train, piece_folder: Folder) -> None:
    folder = piece_folder(piece_model(), tokenizer_config={"extra_ids": count})
    with pytest.raises(ModelError, match="extra_ids is .* expected a whole number from 0 to 10000"):
        Tokenizer.from_folder(folder, Frame())


@pytest.mark.parametrize(
    ("file", "files"),
    [
        ("sentencepiece.bpe.model", {}),
        ("sentencepiece.bpe.model", {"config": {"model_type": "xlm-roberta"}}),
        ("tokenizer.model", {"tokenizer_config": {"tokenizer_class": "XLMRobertaTokenizer"}}),
        ("spiece.model", {"config": {"model_type": "bert", "tokenizer_class": "XLMRobertaTokenizerFast"}}),
    ],
)
def test_xlm_r_ids_are_those_of_transformers(
    file: str, files: Any, piece_model: Train, piece_folder: Folder, tmp_path: Path
) -> None:
    import transformers

    ours = Tokenizer.from_folder(piece_folder(piece_model(), file, **files), Frame())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sentencepiece.bpe.model").write_bytes(piece_model())
    other = transformers.XLMRobertaTokenizer.from_pretrained(tmp_path / "other")
    texts = ["the cat <mask> on", " Über  naïve zq 🦙", "", "<s>the</s>", "ﬁ Ⅷ 中文字"]
    assert [encoding.ids for encoding in ours.encode(texts)] == other(texts).input_ids
    assert ours.encode([("the", "cat")])[0].ids == other("the", "cat").input_ids
    special = [ours.token_id(name) for name in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    assert special == [0, 1, 2, 3, ours.vocab_size - 1]


def test_xlm_r_needs_its_three_first_pieces(piece_model: Train, piece_folder: Folder) -> None:
    content = piece_model(pad_id=0, unk_id=1, bos_id=2, eos_id=3)
    with pytest.raises(ModelError, match=r"sentencepiece\.bpe\.model: expected the pieces <unk>, <s> and </s> first"):
        Tokenizer.from_folder(piece_folder(content, "sentencepiece.bpe.model"), Frame())


@pytest.mark.parametrize("class_", [{"tokenizer_class": "XLNetTokenizer"}, {"tokenizer_class": "XLNetTokenizerFast"}])
def test_xlnet_prepares_the_text_as_its_own_code_does(
    class_: dict[str, Any], piece_model: Train, piece_folder: Folder
) -> None:
    content = piece_model(user_defined_symbols="<eop>,.,(,),–,£", control_symbols="<cls>,<sep>,<pad>,<mask>,<eod>")
    model = theirs.SentencePieceProcessor(model_proto=content)

    def ids(text: str, **config: Any) -> list[int]:
        return (
            Tokenizer.from_folder(piece_folder(content, tokenizer_config=class_ | config), Frame())
            .encode([text])[0]
            .ids
        )

    assert ids("Über naïve") == model.encode("Uber naive") != model.encode("Über naïve")
    assert ids("Über naïve", keep_accents=True) == model.encode("Über naïve")
    assert ids("Über", do_lower_case=True) == model.encode("uber")
    assert ids("``the'' mat") == model.encode('"the" mat')
    assert ids("(the £ end).") == model.encode("(the £ end).")
    assert ids("the<sep>cat<cls>") == [
        *model.encode("the"),
        model.piece_to_id("<sep>"),
        *model.encode("cat"),
        model.piece_to_id("<cls>"),
    ]


@pytest.mark.parametrize(
    ("config", "one", "two"),
    [
        ({}, "1 x", "1 x 1 y"),
        ({"add_bos_token": False}, "x", "x y"),
        ({"add_eos_token": True}, "1 x 2", "1 x 2 1 y 2"),
        ({"add_bos_token": False, "add_eos_token": True, "eos_token": "</s>"}, "x 2", "x 2 y 2"),
        ({"bos_token": {"content": "</s>"}}, "2 x", "2 x 2 y"),
    ],
)
def test_pairs_begin_with_bos_unless_the_folder_says_no(
    config: Any, one: str, two: str, piece_model: Train, piece_folder: Folder
) -> None:
    folder = piece_folder(piece_model(model_type="bpe"), "tokenizer.model", tokenizer_config=config)
    tokenizer = Tokenizer.from_folder(folder, Frame())
    x, y = (" ".join(map(str, theirs_ids(piece_model, text))) for text in ("the", "cat"))
    for text, wanted in (("the", one), (("the", "cat"), two)):
        found = " ".join(map(str, tokenizer.encode([text])[0].ids))
        assert found == wanted.replace("x", x).replace("y", y)


def theirs_ids(piece_model: Train, text: str) -> list[int]:
    return list(theirs.SentencePieceProcessor(model_proto=piece_model(model_type="bpe")).encode(text))


@pytest.mark.parametrize(("legacy", "spaces"), [(True, 1), (False, 0)])
def test_after_a_special_token_a_space_goes_before_the_rest_only_in_old_folders(
    legacy: bool, spaces: int, piece_model: Train, piece_folder: Folder
) -> None:
    config = {"legacy": legacy, "add_bos_token": False}
    folder = piece_folder(piece_model(model_type="bpe", remove_extra_whitespaces=False), tokenizer_config=config)
    tokenizer = Tokenizer.from_folder(folder, Frame())
    assert tokenizer.decode(tokenizer.encode(["the</s>cat"])[0].ids, special=True) == f"the</s>{' ' * spaces}cat"


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_read_again_the_ids_are_the_same(
    kind: str, piece_model: Train, piece_folder: Folder, tmp_path: Path
) -> None:
    import transformers

    config = {"tokenizer_class": "LlamaTokenizer", "extra_ids": 2}
    content = piece_model(**as_key(KINDS[kind]))
    tokenizer = Tokenizer.from_folder(piece_folder(content, tokenizer_config=config), Frame())
    tokenizer.save(tmp_path / "new")
    texts = [*odd_texts(200, " aab3.,é\u0301\u200d中ﬁ🦙\n"), "the  end (of</s>it) <eop><own><extra_id_0>x"]
    wanted = [encoding.ids for encoding in tokenizer.encode(texts)]
    again = Tokenizer.from_folder(tmp_path / "new", Frame())
    assert again.frame == tokenizer.frame
    assert [encoding.ids for encoding in again.encode(texts)] == wanted
    other = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "new")
    assert other(texts).input_ids == wanted
    assert type(transformers.AutoTokenizer.from_pretrained(tmp_path / "new")) is type(other)


def test_a_model_whose_folder_has_such_a_file_reads_texts(
    tiny: Callable[..., Any], piece_model: Train, tmp_path: Path
) -> None:
    made = tiny("llama-lm")
    folder = shutil.copytree(made.folder, tmp_path / "old", ignore=shutil.ignore_patterns("tokenizer*"))
    content = piece_model(model_type="bpe")
    (folder / "tokenizer.model").write_bytes(content)
    model = load(folder, "float32")
    assert model.has_tokenizer
    ids = [1, *theirs.SentencePieceProcessor(model_proto=content).encode("the cat")]
    assert model.encode(["the cat"])[0].ids == ids
    model.save(tmp_path / "new")
    again = load(tmp_path / "new", "float32")
    assert again.encode(["the cat"])[0].ids == ids
    assert (tmp_path / "new" / "tokenizer.json").is_file()
