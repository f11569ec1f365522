"""Models saved as little more than what they learned: adapters, which name the base model they belong to.

Two kinds of folders: LoRA as the library peft writes it (graft/adapters/peft.py), and whatever else was learned beside
a frozen base, in a file of Graft's own (graft/adapters/learned.py, docs/adapters.md).
"""

from graft.adapters.base import Base, identity
from graft.adapters.folder import Opened, holds, load, look
from graft.adapters.layers import Bottleneck, LowRank
from graft.adapters.mix import Beside, LayerMix, mix
from graft.adapters.saving import library, save
from graft.adapters.wrapping import add, layers, merge, present

__all__ = [
    "Base",
    "Beside",
    "Bottleneck",
    "LayerMix",
    "LowRank",
    "Opened",
    "add",
    "holds",
    "identity",
    "layers",
    "library",
    "load",
    "look",
    "merge",
    "mix",
    "present",
    "save",
]
