"""The command that describes a new model: `driftloop init NAME`."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.panels import Panel, add

if TYPE_CHECKING:
    from ops.cli.stack.new_model import NewModel

NewName = Annotated[str, typer.Argument(help="Name of the model: small letters, digits and hyphens.")]
Serving = Annotated[
    str | None, typer.Option(help="Who serves: driftloop (built in), vllm, tgi, sglang, nim, triton or external.")
]
BaseModel = Annotated[
    str | None,
    typer.Option(help="Folder or hub name of the first champion's weights, or scratch for a small new model."),
]
TrainingText = Annotated[
    str | None, typer.Option(help="Text file (.txt, .jsonl, .parquet), or builtin:python-docs to try driftloop out.")
]
Quality = Annotated[
    str | None, typer.Option(help="Preset of signals on serving's metrics: one of these servers, or none.")
]
GPU_PRESETS = "dcgm, amd, gaudi, nvidia_smi, xpu, ray, triton"
Gpu = Annotated[str | None, typer.Option(help=f"Preset of signals on GPUs: {GPU_PRESETS}, or none.")]
Promotion = Annotated[
    str, typer.Option(help="auto: what the gate accepts is promoted; approve: a person is asked first.")
]
Description = Annotated[str, typer.Option(help="What the model does, in one sentence.")]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(
        app, init, Panel.STACK,
        "driftloop init support-bot",
        "driftloop init support-bot --serving vllm --base-model /models/support --training-text faq.jsonl --gpu dcgm",
    )  # fmt: skip


_ON_GPUS = f"Signals on GPUs, by their exporter: {GPU_PRESETS}, or none?"


def init(
    name: NewName,
    serving: Serving = None,
    base_model: BaseModel = None,
    training_text: TrainingText = None,
    quality: Quality = None,
    gpu: Gpu = None,
    promotion: Promotion = "auto",
    description: Description = "",
) -> None:
    """Describe a new model: ask what no option says, write models/NAME.yaml, and print what is still missing.

    On a terminal it asks; elsewhere --serving, --base-model and --training-text are needed. It never overwrites a file.
    """
    from datasets_defs.core.errors import ContractError
    from datasets_defs.core.settings import settings
    from ops.cli.stack.first_check import missing
    from ops.cli.stack.new_model import SERVERS, NewModel

    path = settings().models_dir / f"{name}.yaml"
    _require_free(path, name)
    server = _answer("--serving", serving, f"Who serves it: {', '.join(SERVERS)}?", "driftloop")
    if server not in SERVERS:
        raise ContractError(f"--serving {server!r}: there are {', '.join(SERVERS)}")
    scratch = "scratch" if server == "driftloop" else None
    base = _answer("--base-model", base_model, "Base model: a folder, a hub name, or scratch?", scratch)
    text = _answer("--training-text", training_text, "Training text: a file, or builtin:python-docs?", None)
    own = server if server != "external" else "none"
    signals = _choice(quality, "Signals on serving's metrics: a server's name, or none?", own)
    gpus = _choice(gpu, _ON_GPUS, "none")
    made = NewModel(
        name=name, description=description, serving=server, base_model=base, training_text=text,
        quality=signals, gpu=gpus, promotion=promotion,
    )  # fmt: skip
    _write(path, made)
    tables.plainly(f"{path} is written, and `driftloop check-models` accepts it.", style="green")
    sentences = missing(name)
    tables.say("First check: what is still missing" if sentences else "First check: nothing is missing.")
    for sentence in sentences:
        tables.plainly(f"  - {sentence}", style="yellow")


def _require_free(path: Path, name: str) -> None:
    from datasets_defs.core.errors import ContractError

    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise ContractError(f"{name!r} is no name of a model: use small letters, digits and hyphens, such as my-model")
    if path.exists():
        raise ContractError(f"{path} exists already and stays as it is; edit it, or choose another name")


def _answer(option: str, given: str | None, question: str, suggestion: str | None) -> str:
    """Give what the option says, or else what a person at the terminal answers.

    Raises:
        ContractError: neither is there.
    """
    from datasets_defs.core.errors import ContractError

    if given is not None:
        if not given.strip():
            raise ContractError(f"{option} is empty. {question}")
        return given.strip()
    if not sys.stdin.isatty():
        raise ContractError(f"{option} is missing, and there is no terminal to ask at. {question}")
    return str(typer.prompt(question, default=suggestion)).strip()


def _choice(given: str | None, question: str, suggestion: str) -> tuple[str, ...]:
    """Give the preset's name that the option says or a person answers, or else the suggestion; nothing for `none`."""
    name = given
    if name is None:
        name = str(typer.prompt(question, default=suggestion)) if sys.stdin.isatty() else suggestion
    return () if name == "none" else (name,)


def _write(path: Path, made: "NewModel") -> None:
    """Write the file, and beside it the schema that its first line names, unless there is one.

    Raises:
        ContractError: an answer is impossible, or the folder cannot be written.
    """
    import json

    from datasets_defs.core.errors import ContractError
    from datasets_defs.spec.files import parse
    from datasets_defs.spec.json_schema import json_schema
    from ops.cli.stack.new_model import SCHEMA_FILE, yaml_of

    text, schema = yaml_of(made), path.parent / SCHEMA_FILE
    parse(text, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        if not schema.exists():
            schema.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
    except OSError as err:
        raise ContractError(f"{path} cannot be written: {err}") from err
