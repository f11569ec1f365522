"""transformers' Trainer, for every kind of task, with all weights learning or with peft's LoRA.

Its defaults, nothing logged, nothing evaluated or written on the way, rows tokenised beforehand and kept as plain lists
in memory. All of that favours it a little.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from data_sets import read
from lessons import BATCH, LORA, Done, Lesson, Run

OVERLAP = 128  # tokens two windows share: the usual setting
BEST, LONGEST = 20, 30  # ends and starts tried, and tokens of an answer: the usual settings


class Labels:
    """A text or a pair, and a label."""

    auto, peft, head, targets = "AutoModelForSequenceClassification", "SEQ_CLS", ["pooler", "classifier"], ["labels"]
    collator = "DataCollatorWithPadding"

    def __init__(self, tokenizer: Any, limit: int, targets: Sequence[Any]) -> None:
        self.tokenizer, self.limit, self.names = tokenizer, limit, self._names(targets)
        self.last: Any = None  # the encodings of the rows last made features of

    def _names(self, targets: Sequence[Any]) -> list[str]:
        return sorted(set(targets))

    def settings(self) -> dict[str, Any]:
        return {"num_labels": len(self.names)}

    def features(self, inputs: Sequence[Any], targets: Sequence[Any] | None) -> list[dict[str, Any]]:
        """Rows as the Trainer wants them; rows to answer have no target."""
        pairs = [one if isinstance(one, tuple) else (one,) for one in inputs]
        encoded = self.tokenizer(*map(list, zip(*pairs, strict=True)), truncation=True, max_length=self.limit)
        rows = unpacked(encoded)
        if targets is not None:
            for each, target in zip(rows, targets, strict=True):
                each["labels"] = self._number(target)
        return rows

    def _number(self, target: Any) -> Any:
        return self.names.index(target)

    def answers(self, given: Any, inputs: Sequence[Any]) -> list[Any]:
        """Answers from the model's outputs for the rows whose features were asked for last."""
        return [self.names[index] for index in given.argmax(1)]


class Numbers(Labels):
    """A pair, and a number: a regression."""

    def _names(self, targets: Sequence[Any]) -> list[str]:
        return []

    def settings(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def _number(self, target: Any) -> Any:
        return float(target)

    def answers(self, given: Any, inputs: Sequence[Any]) -> list[Any]:
        return [float(one) for one in given.reshape(-1)]


class Tags(Labels):
    """Words, and a tag for each, at its first token; words beyond the limit are answered with O."""

    auto, peft, head = "AutoModelForTokenClassification", "TOKEN_CLS", ["classifier"]
    collator = "DataCollatorForTokenClassification"

    def _names(self, targets: Sequence[Any]) -> list[str]:
        return sorted({tag for tags in targets for tag in tags})

    def features(self, inputs: Sequence[Any], targets: Sequence[Any] | None) -> list[dict[str, Any]]:
        encoded = self.last = self._encode(inputs)
        rows = unpacked(encoded)
        if targets is not None:
            for number, (each, tags) in enumerate(zip(rows, targets, strict=True)):
                first = first_tokens(encoded.word_ids(number))
                labels = [-100] * len(each["input_ids"])
                for word, place in first.items():
                    labels[place] = self.names.index(tags[word])
                each["labels"] = labels
        return rows

    def _encode(self, inputs: Sequence[Any]) -> Any:
        return self.tokenizer(list(inputs), is_split_into_words=True, truncation=True, max_length=self.limit)

    def answers(self, given: Any, inputs: Sequence[Any]) -> list[Any]:
        encoded, best = self.last, given.argmax(2)
        found = []
        for number, words in enumerate(inputs):
            first = first_tokens(encoded.word_ids(number))
            places = [first.get(word) for word in range(len(words))]
            found.append(["O" if place is None else self.names[best[number, place]] for place in places])
        return found


class Spans(Labels):
    """A question and a text of any length, in windows; the answer is the best span of all windows."""

    auto, peft, head = "AutoModelForQuestionAnswering", "QUESTION_ANS", ["qa_outputs"]
    targets = ["start_positions", "end_positions"]

    def _names(self, targets: Sequence[Any]) -> list[str]:
        return []

    def settings(self) -> dict[str, Any]:
        return {}

    def _encode(self, inputs: Sequence[Any]) -> Any:
        return self.tokenizer(
            *map(list, zip(*inputs, strict=True)),
            truncation="only_second",
            max_length=self.limit,
            stride=OVERLAP,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )

    def features(self, inputs: Sequence[Any], targets: Sequence[Any] | None) -> list[dict[str, Any]]:
        encoded = self.last = self._encode(inputs)
        rows = unpacked(encoded, leave=("offset_mapping", "overflow_to_sample_mapping"))
        if targets is not None:
            for number, each in enumerate(rows):
                answer = targets[encoded["overflow_to_sample_mapping"][number]][0]
                places = self._places(encoded, number, answer["answer_start"], answer["text"])
                each["start_positions"], each["end_positions"] = places
        return rows

    def _places(self, encoded: Any, number: int, start: int, text: str) -> tuple[int, int]:
        """First and last token of the answer; the classification token where the window does not hold all of it."""
        offsets, end = encoded["offset_mapping"][number], start + len(text)
        own = [place for place, part in enumerate(encoded.sequence_ids(number)) if part == 1]
        if not own or offsets[own[0]][0] > start or offsets[own[-1]][1] < end:
            return 0, 0
        return (
            max(place for place in own if offsets[place][0] <= start),
            min(place for place in own if offsets[place][1] >= end),
        )

    def answers(self, given: Any, inputs: Sequence[Any]) -> list[Any]:
        encoded = self.last
        best = [(float("-inf"), "")] * len(inputs)
        for number, sample in enumerate(encoded["overflow_to_sample_mapping"]):
            context, offsets = inputs[sample][1], encoded["offset_mapping"][number]
            own = {place for place, part in enumerate(encoded.sequence_ids(number)) if part == 1}
            for score, first, last in _spans(given[0][number], given[1][number], own):
                text = context[offsets[first][0] : offsets[last][1]]
                best[sample] = max(best[sample], (score, text), key=lambda one: one[0])
        return [text for _, text in best]


def _spans(starts: np.ndarray, ends: np.ndarray, own: set[int]) -> list[tuple[float, int, int]]:
    """The spans among the likeliest starts and ends."""
    likely = [[int(place) for place in np.argsort(-logits)[:BEST]] for logits in (starts, ends)]
    return [
        (float(starts[first] + ends[last]), first, last)
        for first in likely[0]
        for last in likely[1]
        if first in own and last in own and first <= last < first + LONGEST
    ]


KINDS: dict[str, type[Labels]] = {
    "classify": Labels,
    "pair": Labels,
    "similarity": Numbers,
    "tag": Tags,
    "ask": Spans,
}


def unpacked(encoded: Any, leave: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows in memory: nothing to decode while training, which is the quickest way to feed a Trainer."""
    columns = {name: column for name, column in encoded.items() if name not in leave}
    return [{name: column[n] for name, column in columns.items()} for n in range(len(encoded["input_ids"]))]


def first_tokens(words: Sequence[int | None]) -> dict[int, int]:
    """The first token of each word."""
    found: dict[int, int] = {}
    for place, word in enumerate(words):
        if word is not None:
            found.setdefault(word, place)
    return found


def trainer(*, bf16: bool, lora: bool = False) -> Run:
    """The Trainer, in float32 or in bfloat16 (autocast)."""

    def run(lesson: Lesson) -> Done:
        with tempfile.TemporaryDirectory() as out:
            return _run(out, lesson, bf16, lora)

    return run


def _run(out: str, lesson: Lesson, bf16: bool, lora: bool) -> Done:
    import transformers as hf

    start = time.perf_counter()
    hf.set_seed(lesson.seed)
    inputs, targets = read(lesson.data, lesson.train)
    tokenizer = hf.AutoTokenizer.from_pretrained(lesson.folder)
    kind = KINDS[lesson.data.task](tokenizer, lesson.data.limit, targets)
    model = getattr(hf, kind.auto).from_pretrained(lesson.folder, **kind.settings())
    rate = LORA["rate"] if lora else lesson.data.rate
    learner = hf.Trainer(
        _adapted(model, kind) if lora else model,
        _arguments(hf, out, lesson, kind, rate, bf16),
        train_dataset=kind.features(inputs, targets),
        data_collator=getattr(hf, kind.collator)(tokenizer),
    )
    done = learner.train()
    asked, _ = read(lesson.data, lesson.test)
    answers = kind.answers(learner.predict(kind.features(asked, None)).predictions, asked)
    learner.save_model(out)
    return Done(
        answers=answers,
        training_seconds=done.metrics["train_runtime"],
        whole_seconds=time.perf_counter() - start,
        rows_seen=len(inputs) * lesson.times,
        notes={"loss": done.training_loss, "learning": _learning(learner.model)},
    )


def _arguments(hf: Any, out: str, lesson: Lesson, kind: Labels, rate: Any, bf16: bool) -> Any:
    return hf.TrainingArguments(
        out,
        num_train_epochs=lesson.times,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        learning_rate=rate,
        seed=lesson.seed,
        bf16=bf16,
        use_cpu=True,
        label_names=kind.targets,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )


def _adapted(model: Any, kind: Labels) -> Any:
    """The model with peft's factors; the head (with the pooler, which Graft counts to it) learns whole."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type=kind.peft,
        r=LORA["rank"],
        lora_alpha=LORA["alpha"],
        lora_dropout=0.0,
        target_modules=list(LORA["targets"]),  # type: ignore[call-overload]
        modules_to_save=kind.head,
    )
    return get_peft_model(model, config)


def _learning(model: Any) -> int:
    """How many numbers learn."""
    return sum(one.numel() for one in model.parameters() if one.requires_grad)
