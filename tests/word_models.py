"""Tiny freshly drawn models whose tokens are whole words, for tests of what is asked and answered in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

SPECIAL = ("<pad>", "</s>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
CLASSES = {
    "t5-lm": "T5ForConditionalGeneration",
    "gpt2-lm": "GPT2LMHeadModel",
    "bert-mask": "BertForMaskedLM",
    "bert-classify": "BertForSequenceClassification",
}


def word_model(source: Path, name: str, target: Path, words: Sequence[str]) -> Path:
    """A model of a tiny one's sizes, drawn as its class draws it, that knows these words."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    shutil.copytree(source, target, dirs_exist_ok=True)
    torch.manual_seed(3)
    config = transformers.AutoConfig.from_pretrained(source)
    getattr(transformers, CLASSES[name])(config).save_pretrained(target)
    names = [*SPECIAL, *(f"<extra_id_{n}>" for n in range(4)), *words]
    assert len(names) <= config.vocab_size
    library = Tokenizer(models.WordLevel({word: n for n, word in enumerate(dict.fromkeys(names))}, "<unk>"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    library.add_special_tokens(names[: len(SPECIAL) + 4])
    library.save(str(target / "tokenizer.json"))
    described = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    if name.startswith("bert"):
        described = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "unk_token": "<unk>"}
    (target / "tokenizer_config.json").write_text(json.dumps(described))
    return target
