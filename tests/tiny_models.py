"""The tiny models transformers makes for the tests: one row of a table for each family and head."""

from __future__ import annotations

from typing import Any

POSITIONS = 40
NAMES = ("no", "yes", "maybe")
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: number for number, name in enumerate(NAMES)}}
ENCODER = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": POSITIONS,
}
DECODER = {**ENCODER, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
GPT = {"vocab_size": 260, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": POSITIONS}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.5}
T5 = {
    "vocab_size": 96,
    "d_model": 32,
    "d_kv": 6,
    "d_ff": 48,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "n_positions": POSITIONS,
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}
SIZES: dict[str, dict[str, Any]] = {
    "bert": ENCODER,
    "distilbert": {
        "vocab_size": 96,
        "dim": 32,
        "n_layers": 3,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": POSITIONS,
    },
    "roberta": {**ENCODER, "max_position_embeddings": POSITIONS + 2},
    "xlm_roberta": {**ENCODER, "max_position_embeddings": POSITIONS + 2},
    "gpt2": {**GPT, "bos_token_id": 0, "eos_token_id": 0},
    "openai_gpt": GPT,
    "xlnet": {"vocab_size": 96, "d_model": 32, "n_layer": 3, "n_head": 4, "d_inner": 48},
    "llama": DECODER,
    "mistral": {**DECODER, "sliding_window": 9},
    "qwen2": DECODER,
    "qwen3": {**DECODER, "head_dim": 16},
    "mixtral": {**DECODER, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "olmoe": {**DECODER, "num_experts": 6, "num_experts_per_tok": 3},
    "qwen2_moe": {
        **DECODER,
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24,
        "mlp_only_layers": [1],
    },
    "t5": T5,
    "mt5": T5,
}
BYTES = ("gpt2", "openai_gpt")
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertModel", {}),
    "bert-classify": ("BertForSequenceClassification", LABELS),
    "bert-multi": ("BertForSequenceClassification", {**LABELS, "problem_type": "multi_label_classification"}),
    "bert-regress": ("BertForSequenceClassification", {"num_labels": 1, "problem_type": "regression"}),
    "bert-mask": ("BertForMaskedLM", {"hidden_act": "gelu_new"}),
    "bert-mask_untied": ("BertForMaskedLM", {"tie_word_embeddings": False}),
    "bert-pretrain": ("BertForPreTraining", {}),
    "bert-pretrain_untied": ("BertForPreTraining", {"tie_word_embeddings": False}),
    "bert-tag": ("BertForTokenClassification", LABELS),
    "bert-span": ("BertForQuestionAnswering", {}),
    "bert-choose": ("BertForMultipleChoice", {}),
    "distilbert": ("DistilBertModel", {}),
    "distilbert-classify": ("DistilBertForSequenceClassification", LABELS),
    "distilbert-mask": ("DistilBertForMaskedLM", {"activation": "relu"}),
    "distilbert-mask_untied": ("DistilBertForMaskedLM", {"tie_word_embeddings": False}),
    "distilbert-tag": ("DistilBertForTokenClassification", LABELS),
    "distilbert-span": ("DistilBertForQuestionAnswering", {}),
    "distilbert-choose": ("DistilBertForMultipleChoice", {}),
    "roberta": ("RobertaModel", {}),
    "roberta-classify": ("RobertaForSequenceClassification", LABELS),
    "roberta-mask": ("RobertaForMaskedLM", {"hidden_act": "relu"}),
    "roberta-mask_untied": ("RobertaForMaskedLM", {"tie_word_embeddings": False}),
    "roberta-tag": ("RobertaForTokenClassification", LABELS),
    "roberta-span": ("RobertaForQuestionAnswering", {}),
    "roberta-choose": ("RobertaForMultipleChoice", {}),
    "xlm_roberta": ("XLMRobertaModel", {}),
    "xlm_roberta-classify": ("XLMRobertaForSequenceClassification", LABELS),
    "xlm_roberta-mask": ("XLMRobertaForMaskedLM", {}),
    "xlm_roberta-tag": ("XLMRobertaForTokenClassification", LABELS),
    "xlm_roberta-span": ("XLMRobertaForQuestionAnswering", {}),
    "xlm_roberta-choose": ("XLMRobertaForMultipleChoice", {}),
    "gpt2": ("GPT2Model", {}),
    "gpt2-lm": ("GPT2LMHeadModel", {}),
    "gpt2-untied": ("GPT2LMHeadModel", {"tie_word_embeddings": False}),
    "gpt2-classify": ("GPT2ForSequenceClassification", {**LABELS, "pad_token_id": 0}),
    "gpt2-double": ("GPT2DoubleHeadsModel", {}),
    "gpt2-double_untied": ("GPT2DoubleHeadsModel", {"tie_word_embeddings": False}),
    "gpt2-tag": ("GPT2ForTokenClassification", LABELS),
    "gpt2-span": ("GPT2ForQuestionAnswering", {}),
    "openai_gpt": ("OpenAIGPTModel", {}),
    "openai_gpt-lm": ("OpenAIGPTLMHeadModel", {}),
    "openai_gpt-double": ("OpenAIGPTDoubleHeadsModel", {}),
    "openai_gpt-classify": ("OpenAIGPTForSequenceClassification", {**LABELS, "pad_token_id": 0}),
    "xlnet": ("XLNetModel", {}),
    "xlnet-lm": ("XLNetLMHeadModel", {"mem_len": None}),
    "xlnet-classify": ("XLNetForSequenceClassification", {**LABELS, "summary_last_dropout": 0.2}),
    "llama": ("LlamaModel", {}),
    "llama-lm": ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "llama-tied": ("LlamaForCausalLM", {"tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "llama-classify": ("LlamaForSequenceClassification", {**LABELS, "rope_parameters": LINEAR}),
    "llama-tag": ("LlamaForTokenClassification", LABELS),
    "llama-span": ("LlamaForQuestionAnswering", {}),
    "mistral": ("MistralModel", {}),
    "mistral-lm": ("MistralForCausalLM", {}),
    "mistral-classify": ("MistralForSequenceClassification", LABELS),
    "mistral-tag": ("MistralForTokenClassification", LABELS),
    "mistral-span": ("MistralForQuestionAnswering", {}),
    "qwen2": ("Qwen2Model", {}),
    "qwen2-lm": ("Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}),
    "qwen2-classify": ("Qwen2ForSequenceClassification", LABELS),
    "qwen2-tag": ("Qwen2ForTokenClassification", LABELS),
    "qwen2-span": ("Qwen2ForQuestionAnswering", {}),
    "qwen3": ("Qwen3Model", {}),
    "qwen3-lm": ("Qwen3ForCausalLM", {}),
    "qwen3-classify": ("Qwen3ForSequenceClassification", LABELS),
    "qwen3-tag": ("Qwen3ForTokenClassification", LABELS),
    "qwen3-span": ("Qwen3ForQuestionAnswering", {}),
    "mixtral": ("MixtralModel", {}),
    "mixtral-lm": ("MixtralForCausalLM", {}),
    "mixtral-classify": ("MixtralForSequenceClassification", LABELS),
    "mixtral-tag": ("MixtralForTokenClassification", LABELS),
    "mixtral-span": ("MixtralForQuestionAnswering", {}),
    "olmoe": ("OlmoeModel", {}),
    "olmoe-lm": ("OlmoeForCausalLM", {}),
    "qwen2_moe": ("Qwen2MoeModel", {}),
    "qwen2_moe-lm": ("Qwen2MoeForCausalLM", {}),
    "qwen2_moe-classify": ("Qwen2MoeForSequenceClassification", LABELS),
    "qwen2_moe-tag": ("Qwen2MoeForTokenClassification", LABELS),
    "qwen2_moe-span": ("Qwen2MoeForQuestionAnswering", {}),
}
ENDINGS = {
    "ForSequenceClassification": "classify",
    "ForMultipleChoice": "choose",
    "ForTokenClassification": "tag",
    "ForQuestionAnswering": "span",
    "ForMaskedLM": "mask",
    "ForPreTraining": "mask",
    "ForCausalLM": "next",
    "LMHeadModel": "next",
    "DoubleHeadsModel": "next",
}


def head(name: str) -> str:
    """The kind of head a tiny model has, by the class of transformers it is; "" is none."""
    return next((kind for ending, kind in ENDINGS.items() if TINY[name][0].endswith(ending)), "")


TWO_STACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("T5Model", {}),
    "t5-encoder": ("T5EncoderModel", {}),
    "t5-lm": ("T5ForConditionalGeneration", {}),
    "t5-untied": ("T5ForConditionalGeneration", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5-classify": ("T5ForSequenceClassification", LABELS),
    "mt5": ("MT5Model", {}),
    "mt5-encoder": ("MT5EncoderModel", {}),
    "mt5-lm": ("MT5ForConditionalGeneration", {}),
    "mt5-classify": ("MT5ForSequenceClassification", LABELS),
}
"""Models of an encoder and a decoder."""
