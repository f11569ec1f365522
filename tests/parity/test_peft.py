"""LoRA against the library peft: what Graft saves opens there, what peft saves opens here, with the same answers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted import LABELS, grafted, learn, logits, sequences

from graft.families import label_names
from graft.loading import load

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]
SAVED = ("bert", "roberta", "distilbert", "gpt2", "llama", "t5")
"""XLNet's attention is not made of layers peft could wrap."""

WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("bert-classify", {"task_type": "SEQ_CLS"}),
    "rooted": ("bert-classify", {"task_type": "SEQ_CLS", "use_rslora": True, "lora_alpha": 3}),
    "patterns": (
        "bert-classify",
        {"task_type": "SEQ_CLS", "rank_pattern": {"layer.1.attention.self.query": 5}, "alpha_pattern": {"value": 2}},
    ),
    "bias": ("bert-classify", {"task_type": "SEQ_CLS", "bias": "lora_only"}),
    "everything": ("roberta-classify", {"task_type": "SEQ_CLS", "target_modules": "all-linear"}),
    "pooler": ("bert-classify", {"task_type": "SEQ_CLS", "target_modules": "all-linear"}),
    "bare": ("bert", {"target_modules": ["query", "dense"]}),
    "fused": ("gpt2-classify", {"task_type": "SEQ_CLS", "target_modules": ["c_attn", "c_proj"]}),
    "language": ("gpt2-lm", {"task_type": "CAUSAL_LM"}),
    "embedding": ("llama-lm", {"task_type": "CAUSAL_LM", "modules_to_save": ["embed_tokens", "lm_head"]}),
    "gated": ("llama-classify", {"task_type": "SEQ_CLS", "target_modules": ["q_proj", "gate_proj", "down_proj"]}),
    "distilled": ("distilbert-classify", {"task_type": "SEQ_CLS", "target_modules": ["q_lin", "lin1"]}),
    "tags": ("bert-tag", {"task_type": "TOKEN_CLS"}),
    "two stacks": ("t5-lm", {"task_type": "SEQ_2_SEQ_LM"}),
    "labelled": ("t5-classify", {"task_type": "SEQ_CLS", "modules_to_save": ["classification_head"]}),
    "relative": ("xlnet-classify", {"target_modules": ["layer_1"], "modules_to_save": ["logits_proj"]}),
}


def opened(folder: Path, base: Path) -> Any:
    """An adapter in peft, as its model card says."""
    import peft
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    theirs = getattr(transformers, config.architectures[0]).from_pretrained(base, config=config)
    return peft.PeftModel.from_pretrained(theirs, folder).eval()


@torch.inference_mode()
def theirs_alone(model: Any, name: str, **more: Any) -> torch.Tensor:
    found = [model(input_ids=torch.tensor([one]), **more) for one in sequences(name)]
    return torch.cat([one[0][0] if "last_hidden_state" in one else one.logits.flatten(0, -2) for one in found])


@pytest.mark.parametrize("settings", [{}, {"targets": ("all",), "rank": 3, "alpha": 5.0}, {"targets": ("value",)}])
@pytest.mark.parametrize("name", SAVED)
def test_what_graft_saves_opens_in_peft(tiny, tmp_path: Path, name: str, settings: dict[str, Any]):
    model = grafted(tiny(name).folder)
    learn(model, "lora", **settings)
    folder = model.save(tmp_path / "saved")
    theirs = opened(folder, tiny(name).folder)
    assert tuple(theirs.config.id2label.values()) == LABELS
    assert float((theirs_alone(theirs, name) - logits(model)).abs().max()) < 1e-5
    wrapped = {key.partition(".lora_A")[0] for key, _ in theirs.named_parameters() if ".lora_A" in key}
    saved = json.loads((folder / "adapter_config.json").read_text())
    assert saved["target_modules"]
    assert len(saved["target_modules"]) < len(wrapped)


def written(tiny: Any, tmp_path: Path, case: str) -> tuple[str, Any, Path]:
    """An adapter of peft with random factors, saved."""
    import peft

    name, options = WRITTEN[case]
    base = tiny(name)
    theirs = type(base.theirs).from_pretrained(base.folder)
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 6, **options})
    adapted = peft.get_peft_model(theirs, config).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    adapted.save_pretrained(tmp_path / "theirs")
    return name, adapted, tmp_path / "theirs"


@pytest.mark.parametrize("case", WRITTEN)
def test_what_peft_saves_opens_in_graft_and_is_saved_again(tiny, tmp_path: Path, case: str):
    name, adapted, folder = written(tiny, tmp_path, case)
    family = name.partition("-")[0]
    read = [[0, *one[:-1]] for one in sequences(family)] if case == "two stacks" else None
    inputs = [torch.tensor([one]) for one in sequences(family)]
    more = [{"decoder_input_ids": torch.tensor([one])} for one in read] if read else [{}] * len(inputs)
    with torch.inference_mode():
        outputs = [adapted(input_ids=one, **rest) for one, rest in zip(inputs, more, strict=True)]
    expected = [one[0][0] if "last_hidden_state" in one else one.logits.flatten(0, -2) for one in outputs]
    for place in (folder, load(folder, "float32").save(tmp_path / "ours")):
        model = load(place, "float32")
        if model.head is None:
            found = model.hidden_states(sequences(family))
        else:
            found = model.logits(sequences(family), decoder=read)
        pairs = zip(found, expected, strict=True)
        assert max(float((a - b.reshape(a.shape)).abs().max()) for a, b in pairs) < 1e-5
    model.merge()
    again = model.logits(sequences(family), decoder=read) if model.head else model.hidden_states(sequences(family))
    assert max(float((a - b).abs().max()) for a, b in zip(again, found, strict=True)) < 1e-5


def test_labels_are_those_of_the_base_where_it_has_as_many(tiny, tmp_path: Path):
    _, _, folder = written(tiny, tmp_path, "default")
    assert load(folder).head.labels == ("no", "yes", "maybe")
    assert label_names({"num_labels": 2}) == ("LABEL_0", "LABEL_1")


def test_labels_are_counted_where_the_base_has_none(tiny, tmp_path: Path):
    import peft
    import transformers

    base = tiny("bert").folder
    theirs = transformers.BertForSequenceClassification.from_pretrained(base, num_labels=5)
    peft.get_peft_model(theirs, peft.LoraConfig(task_type="SEQ_CLS", r=4)).save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs", "float32")
    assert model.head.labels == tuple(f"LABEL_{number}" for number in range(5))
    assert math.isfinite(float(logits(model).sum()))
