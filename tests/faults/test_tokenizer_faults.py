"""Tokenizer files that are damaged or made to do harm: refused by name, or read for what they are."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import SECONDS, opened, refused

from graft.errors import GraftError
from graft.loading import load

LONG = 10**6


def edited(folder: Path, name: str, *path: Any, value: Any) -> Path:
    """A JSON file with one of its entries replaced."""
    content = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
    node = content
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    (folder / name).write_text(json.dumps(content))
    return folder


Edit = tuple[tuple[Any, ...], Any]
WORD_PIECE: list[Edit] = [
    *[(("model",), value) for value in (None, [], "x", 3, {}, {"type": "WordPiece"}, {"type": "Pickle"})],
    *[(("model", "vocab"), value) for value in (None, [], "x", {"a": -1}, {"a": "0"}, {"a": 0.5}, {"a": 2**40}, {})],
    *[(("model", "vocab", "a"), value) for value in (None, -1, 2**33, 1.5, "x" * LONG, [1], {"b": 1})],
    *[(("model", "max_input_chars_per_word"), value) for value in (-1, 10**9, 2**63, "x", 1.5, None)],
    *[(("model", "unk_token"), value) for value in (None, 3, [])],
    *[(("normalizer",), value) for value in ("x", [], {"type": "Eval"}, {"type": "Sequence"})],
    (("normalizer",), {"type": "Sequence", "normalizers": [{"type": "Replace"}]}),
    (("normalizer",), {"type": "Replace", "pattern": {"Regex": "(("}, "content": ""}),
    (("normalizer",), {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * LONG}),
    (("normalizer",), {"type": "Precompiled", "precompiled_charsmap": "AAAA" * 10}),
    *[(("pre_tokenizer",), value) for value in ("x", {"type": "Exec"}, {"type": "Sequence", "pretokenizers": [1]})],
    (("pre_tokenizer",), {"type": "Split", "pattern": {"Regex": "["}, "behavior": "Isolated", "invert": False}),
    *[(("decoder",), value) for value in ("x", {"type": "Shell"})],
    *[(("post_processor",), value) for value in ("x", {"type": "TemplateProcessing"}, {"type": "BertProcessing"})],
    *[(("added_tokens",), value) for value in (None, {}, "x", [1], [{"id": 1}], [{"id": -1, "content": "x"}])],
    *[(("truncation",), value) for value in ("x", {"max_length": -1}, [])],
    *[(("padding",), value) for value in ("x", {"strategy": 3}, [])],
    *[(("version",), value) for value in ("9.0", 3, "x" * LONG, {})],
]
HARMLESS = (None, {})
"""Values that some readers take for an entry left out."""


@pytest.mark.parametrize(("path", "value"), WORD_PIECE, ids=lambda value: repr(value)[:40])
def test_a_damaged_tokenizer(broken, path: tuple[Any, ...], value: Any):
    folder = edited(broken("bert-classify"), "tokenizer.json", *path, value=value)
    try:
        load(folder, "float32")("a cab")
    except GraftError:
        message = refused(folder, attempt=opened)
        assert len(message) < 700
        return
    assert value in HARMLESS or path[-1] in ("unk_token", "max_input_chars_per_word"), "read as if nothing were wrong"


BYTE_PAIRS: list[Edit] = [
    *[(("model", "merges"), value) for value in (None, "x", ["a"], [["a"]], [["a", "b", "c"]], [["a", "nope"]], [3])],
    *[(("model", "vocab"), value) for value in ([], "x", {"a": -1}, {"a": None})],
    *[(("model", "dropout"), value) for value in ("x", -1, 2)],
    *[(("pre_tokenizer", "add_prefix_space"), value) for value in ("x", 3)],
]


@pytest.mark.parametrize(("path", "value"), BYTE_PAIRS, ids=lambda value: repr(value)[:40])
def test_damaged_byte_pairs(broken, path: tuple[Any, ...], value: Any):
    folder = edited(broken("gpt2-classify"), "tokenizer.json", *path, value=value)
    assert len(refused(folder, attempt=opened)) < 700


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a valid JSON file"),
        (b"null", "expected a JSON object"),
        (b"\xff\xfe{\0}\0", "not a valid JSON file"),
        (b'{"version": "1.0", "version": "1.0"}', "the key 'version' is given twice"),
        (b'{"model": {"vocab": {"a": 0, "a": 1}}}', "the key 'a' is given twice"),
        (b'{"a": ' * 10**5, "nested too deep"),
        (b'{"a": NaN}', "NaN is no number in JSON"),
        (b'{"version": "1.0"', "not a valid JSON file"),
    ],
    ids=lambda value: repr(value)[:30],
)
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_a_file_that_is_no_json(broken, name: str, content: bytes, message: str):
    folder = broken("bert-classify")
    (folder / name).write_bytes(content)
    assert f"{name}: " in refused(folder, attempt=opened)
    assert message in refused(folder, attempt=opened)


# Folders of the older kinds

WORDS = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcde!", "##b", "##a", "##c", "##d", "##e", ""])


def older(folder: Path, **files: Any) -> Path:
    for path in (*folder.glob("tokenizer*.json"), *folder.glob("special*.json")):
        path.unlink()
    for name, content in files.items():
        path = folder / f"{name}.{'txt' if name in ('merges', 'vocab_list') else 'json'}".replace("vocab_list", "vocab")
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no token '[CLS]'"),
        (b"\n\n\n", "has no token '[CLS]'"),
        (b"\0\0\0", "has no token '[CLS]'"),
        (b"x" * LONG, "has no token '[CLS]'"),
        (b"\xff\xfe[\0", "vocab.txt: cannot be read as UTF-8 text"),
        (b"[CLS]\n\xe4\xb8", "vocab.txt: cannot be read as UTF-8 text"),
        (WORDS.replace("[SEP]", "SEP").encode(), "has no token '[SEP]'"),
        (WORDS.encode("utf-16"), "vocab.txt: cannot be read as UTF-8 text"),
        (b"\x80\x04\x95cposix\nsystem\n.", "vocab.txt: cannot be read as UTF-8 text"),
        ((WORDS + "x\n" * 200).encode(), "vocab"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_damaged_list_of_words(broken, content: bytes, message: str):
    folder = older(broken("bert-classify"), vocab_list=content)
    if message != "vocab":
        assert message in refused(folder, attempt=opened)
    else:
        opened(folder)


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        ([], b"", "vocab.json: expected a JSON object"),
        ({"a": -1}, b"", "vocab.json: the token 'a' has id -1, expected a number"),
        ({"a": 1.5}, b"", "the token 'a' has id 1.5"),
        ({"a": "0"}, b"", "the token 'a' has id '0'"),
        ({"a": True}, b"", "the token 'a' has id True"),
        ({"a": None}, b"", "the token 'a' has id None"),
        ({"a": 2**40}, b"", "the token 'a' has id 1099511627776"),
        ({"a": 10**300}, b"", "the token 'a' has id 1000"),
        ({"a\n": [1]}, b"", r"the token 'a\\n' has id [1]"),
        ({"a": 0}, b"a b", "merges.txt, line 1: 'b' is not in vocab.json"),
        ({"a": 0, "b": 1}, b"a b", "merges.txt, line 1: 'ab' is not in vocab.json"),
        ({"a": 0, "b": 1, "ab": 2}, b"a b c", "merges.txt, line 1: expected two tokens and a space, found 'a b c'"),
        ({"a": 0, "b": 1, "ab": 2}, b"#version: 1\na b\n\na  b", "merges.txt, line 4: expected two tokens"),
        ({"a": 0}, b"\xff", "merges.txt: cannot be read as UTF-8 text"),
        ({"a": 0}, b"x" * LONG, "merges.txt, line 1: expected two tokens"),
        ({"a": 5000}, b"", "config.json"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_damaged_pairs(broken, vocab: Any, merges: bytes, message: str):
    folder = older(broken("gpt2-classify"), vocab=vocab, merges=merges)
    found = refused(folder, GraftError, opened)
    assert message.replace("\\\\", "\\") in found or message == "config.json", found


@pytest.mark.parametrize(
    "table",
    [
        [1],
        "x",
        3,
        {"a": {"content": "x"}},
        {"5": "x"},
        {"5": {}},
        {"5": {"content": None}},
        {"5": {"content": 3}},
        {"-1": {"content": "new"}},
        {"99999999999": {"content": "new"}},
        {"5": {"content": "new"}},
        {"5": {"content": "new", "lstrip": "yes"}},
        {str(10**300): {"content": "new"}},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_added_tokens_that_do_not_fit(broken, table: Any):
    config = {"added_tokens_decoder": table}
    folder = older(broken("bert-classify"), vocab_list=WORDS.encode(), tokenizer_config=config)
    refused(folder, attempt=opened)


@pytest.mark.parametrize("value", [None, 3, [], {}, "", "x", True, {"content": 3}, {"content": None}, [1], "y" * LONG])
@pytest.mark.parametrize("key", ["cls_token", "unk_token", "do_lower_case", "strip_accents", "chat_template"])
@pytest.mark.parametrize("kind", ["current", "older"])
def test_settings_that_make_no_sense(broken, tmp_path: Path, kind: str, key: str, value: Any):
    """Read or refused, but nothing else; what is read can be saved and read again."""
    folder: Path = broken("bert-classify")
    if kind == "older":
        older(folder, vocab_list=WORDS.encode())
    edited(folder, "tokenizer_config.json", key, value=value)
    start, message = time.process_time(), ""
    try:
        model = load(folder, "float32")
        model("a cab")
        load(model.save(tmp_path / "out"), "float32")("a cab")
    except GraftError as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 700
    assert time.process_time() - start < 2 * SECONDS


HARM: list[tuple[str, Callable[[Path], Any], str]] = [
    (
        "replacements that multiply",
        lambda folder: edited(
            folder,
            "tokenizer.json",
            "normalizer",
            value={
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40,
            },
        ),
        "it is made to do harm",
    ),
    (
        "a normalizer that multiplies in the decoder",
        lambda folder: edited(
            folder,
            "tokenizer.json",
            "decoder",
            value={"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10**5},
        ),
        "it is made to do harm",
    ),
    (
        "words without end",
        lambda folder: edited(folder, "tokenizer.json", "model", "max_input_chars_per_word", value=10**9),
        "max_input_chars_per_word is above",
    ),
]


@pytest.mark.parametrize(("name", "damage", "message"), HARM, ids=[name for name, *_ in HARM])
@pytest.mark.usefixtures("little_memory")
def test_files_made_to_do_harm(broken, name: str, damage: Callable[[Path], Any], message: str):
    folder = broken("bert-classify")
    damage(folder)
    assert message in refused(folder, attempt=opened)


def test_there_are_enough():
    assert len(WORD_PIECE) + len(BYTE_PAIRS) > 70
