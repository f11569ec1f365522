"""``graft convert``: a model folder in another layout becomes one Graft loads."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from graft.cli.options import AsJson, Quiet, watching
from graft.cli.output import amount, one_line, write, write_json

Source = Annotated[
    str, Argument(metavar="IN", help="A folder with config.json and safetensors or pytorch_model.bin, or with LoRA.")
]
Out = Annotated[str, Argument(metavar="OUT", help="The folder to write; it must not exist.")]
Stored = Annotated[
    str | None, Option("--dtype", metavar="TYPE", help="Store float32, bfloat16 or float16; default: as in IN.")
]
Trust = Annotated[bool, Option("--trust", help="Read pickles: in a child process, without network, tensors alone.")]


def convert(
    source: Source, out: Out, dtype: Stored = None, trust: Trust = False, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Turn old names, dtypes and pickles into safetensors; merge LoRA."""
    from graft.recipes.convert import convert as recipe

    done = recipe(source, out, dtype=dtype, trust=trust, watch=watching(quiet))
    if as_json:
        write_json(done.as_dict())
        return
    write(f"{one_line(out)}: {done.architecture}, {amount(done.parameters)} parameters in {done.dtype}")
    if done.carried:
        write(f"carried over: {', '.join(done.carried)}")
