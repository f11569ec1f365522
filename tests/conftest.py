"""Fixtures every test may use."""

from __future__ import annotations

import json
import resource
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tiny_models import BYTES, SIZES, TINY, TWO_STACKS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets kept beside the checkout; absent on most machines."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data sets are not here: {folder} does not exist")
    return folder


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let a test take 256 MiB more address space at most: a larger allocation fails, and with it the test."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + 256 * 2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@dataclass(frozen=True)
class Tiny:
    """A tiny published model: the folder transformers saved it to, and the model itself, in evaluation mode.

    Tests share it: copy the folder before changing anything in it.
    """

    folder: Path
    theirs: Any


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tiny]:
    """Make a tiny random model of transformers, saved with a tokenizer: ``tiny("gpt2-lm", n_positions=400)``."""

    @cache
    def make(name: str, **changes: Any) -> Tiny:
        import transformers

        architecture, options = (TINY | TWO_STACKS)[name]
        family = name.partition("-")[0]
        theirs = getattr(transformers, architecture)
        config = theirs.config_class(**{**SIZES[family], **options, **changes})
        model = theirs(config)
        if name.endswith("t5-untied"):
            model.lm_head.weight = type(model.lm_head.weight)(model.lm_head.weight.clone())  # T5 ties it all the same
        model = _random(model).eval()
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        (_save_bytes if family in BYTES else _save_word_piece)(folder)
        return Tiny(folder, model)

    return make


def _random(model: Any) -> Any:
    """Weights that make every tensor matter: fresh models have biases of zero, norms of one and tiny matrices."""
    import torch

    generator = torch.Generator().manual_seed(20)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * 0.2 if parameter.dim() > 1 else 0.3 * noise + (parameter == 1))
    return model


def _save_word_piece(folder: Path) -> None:
    """A BERT tokenizer of single letters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *string.digits, *"?!.,;:"]
    library = Tokenizer(models.WordPiece({token: n for n, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    library.normalizer, library.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    _save_tokenizer(library, folder, {"tokenizer_class": "BertTokenizer"})


def _save_bytes(folder: Path) -> None:
    """A GPT-2 tokenizer without merges: one token for each byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {"<|endoftext|>": 0} | {
        sign: n for n, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), 1)
    }
    library = Tokenizer(models.BPE(vocabulary, []))
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    _save_tokenizer(library, folder, {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"})


def _save_tokenizer(library: Any, folder: Path, config: dict[str, Any]) -> None:
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
