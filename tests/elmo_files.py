"""A tiny ELMo in its published files, random, and the same model once more in plain numpy, one word at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

OPTIONS: dict[str, Any] = {
    "lstm": {
        "cell_clip": 0.7,
        "use_skip_connections": True,
        "n_layers": 2,
        "proj_clip": 0.5,
        "projection_dim": 6,
        "dim": 10,
    },
    "char_cnn": {
        "embedding": {"dim": 4},
        "filters": [[1, 3], [2, 5], [3, 4]],
        "n_highway": 2,
        "n_characters": 262,
        "max_characters_per_token": 50,
        "activation": "relu",
    },
}
Arrays = dict[str, "np.ndarray[Any, Any]"]


def changed(**changes: Any) -> dict[str, Any]:
    """The options, some entries changed: ``changed(dim=6, activation="tanh")``."""
    parts = {part: {k: changes.get(k, v) for k, v in entries.items()} for part, entries in OPTIONS.items()}
    return json.loads(json.dumps(parts))  # type: ignore[no-any-return]


def arrays(options: dict[str, Any], seed: int = 5) -> Arrays:
    """Random weights under their published names, large enough for clipping to matter."""
    cnn, lstm = options["char_cnn"], options["lstm"]
    size, cells, characters = lstm["projection_dim"], lstm["dim"], cnn["embedding"]["dim"]
    found = sum(count for _, count in cnn["filters"])
    shapes: dict[str, tuple[int, ...]] = {"char_embed": (261, characters)}
    for number, (width, count) in enumerate(cnn["filters"]):
        shapes |= {f"CNN/W_cnn_{number}": (1, width, characters, count), f"CNN/b_cnn_{number}": (count,)}
    for number in range(cnn["n_highway"]):
        for name in ("carry", "transform"):
            shapes[f"CNN_high_{number}/W_{name}"] = (found, found)
            shapes[f"CNN_high_{number}/b_{name}"] = (found,)
    if found != size:
        shapes |= {"CNN_proj/W_proj": (found, size), "CNN_proj/b_proj": (size,)}
    for direction in range(2):
        for layer in range(lstm["n_layers"]):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            shapes |= {f"{cell}/W_0": (2 * size, 4 * cells), f"{cell}/B": (4 * cells,)}
            if cells > size:
                shapes[f"{cell}/W_P_0"] = (cells, size)
    random = np.random.default_rng(seed)
    return {name: random.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def write(folder: Path, options: dict[str, Any], weights: Arrays) -> Path:
    """The folder with both files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "options.json").write_text(json.dumps(options))
    with h5py.File(folder / "lm_weights.hdf5", "w") as opened:
        for name, values in weights.items():
            opened.create_dataset(name, data=values)
    return folder


def read(file: Path) -> Arrays:
    """Every dataset of a file."""
    found: Arrays = {}
    with h5py.File(file, "r") as opened:
        opened.visititems(lambda name, one: found.update({name: one[...]}) if isinstance(one, h5py.Dataset) else None)
    return found


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def word_vector(word: bytes | int, options: dict[str, Any], weights: Arrays) -> Any:
    """The token layer's vector of a word, or of mark 256 (begin) or 257 (end) of a sentence."""
    cnn = options["char_cnn"]
    codes = [258, *([word] if isinstance(word, int) else word[:48]), 259]
    x = weights["char_embed"][codes + [260] * (50 - len(codes))].astype(np.float64)
    found: list[float] = []
    for number, (width, count) in enumerate(cnn["filters"]):
        kernel, bias = weights[f"CNN/W_cnn_{number}"][0], weights[f"CNN/b_cnn_{number}"]
        places = [
            [(x[p : p + width] * kernel[:, :, n]).sum() + bias[n] for n in range(count)] for p in range(51 - width)
        ]
        top = np.array(places).max(0)
        found.extend(np.tanh(top) if cnn["activation"] == "tanh" else np.maximum(top, 0))
    y = np.array(found)
    for number in range(cnn["n_highway"]):
        high = {
            kind: weights[f"CNN_high_{number}/{kind}"] for kind in ("W_carry", "b_carry", "W_transform", "b_transform")
        }
        gate = sigmoid(y @ high["W_carry"] + high["b_carry"])
        y = gate * np.maximum(y @ high["W_transform"] + high["b_transform"], 0) + (1 - gate) * y
    return y @ weights["CNN_proj/W_proj"] + weights["CNN_proj/b_proj"] if "CNN_proj/W_proj" in weights else y


def layer_states(words: list[str], options: dict[str, Any], weights: Arrays, state: dict[Any, Any]) -> Any:
    """Every layer's states of one sentence without its marks, (layers + 1, length, D); `state` is carried on."""
    lstm = options["lstm"]
    token = np.stack([word_vector(w, options, weights) for w in (256, *(w.encode() for w in words), 257)])
    ways = []
    for direction in range(2):
        x, layers = token[::-1] if direction else token, [token]
        for layer in range(lstm["n_layers"]):
            y = lstm_layer(x, f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell", lstm, weights, state)
            x = x + y if layer and lstm["use_skip_connections"] else y
            layers.append(x[::-1] if direction else x)
        ways.append(np.stack(layers))
    return np.concatenate(ways, -1)[:, 1:-1]


def lstm_layer(x: Any, cell: str, lstm: dict[str, Any], weights: Arrays, state: dict[Any, Any]) -> Any:
    kernel, bias, projection = (weights.get(f"{cell}/{part}") for part in ("W_0", "B", "W_P_0"))
    h, c = state.get(cell, (np.zeros(lstm["projection_dim"]), np.zeros(lstm["dim"])))
    outputs = []
    for row in x:
        i, j, f, o = np.split(np.concatenate([row, h]) @ kernel + bias, 4)
        c = np.clip(sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j), -lstm["cell_clip"], lstm["cell_clip"])
        h = sigmoid(o) * np.tanh(c)
        if projection is not None:
            h = np.clip(h @ projection, -lstm["proj_clip"], lstm["proj_clip"])
        outputs.append(h)
    state[cell] = (h, c)
    return np.array(outputs)
