"""Arguments and options that several commands share."""

import getpass
from typing import Annotated

import typer


def _names(incomplete: str) -> list[str]:
    """Complete the name of a model."""
    from datasets_defs.core.settings import settings

    return sorted(path.stem for path in settings().models_dir.glob(f"{incomplete}*.yaml"))


Model = Annotated[
    str, typer.Argument(help="Name of a model, as in models/NAME.yaml.", autocompletion=_names, show_default=False)
]
SomeModel = Annotated[
    str | None,
    typer.Argument(help="Name of one model; without it, all models.", autocompletion=_names, show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option("--reason", help="Why. It is written into the history.")]
Since = Annotated[
    str | None,
    typer.Option(
        help="ISO 8601 time from which documents count as fresh. Without it: the start of the open incident, or else "
        "the time since which the champion serves.",
        show_default=False,
    ),
]


def person() -> str:
    """Name the person at the command line, as the history names who acted."""
    return f"cli:{getpass.getuser()}"


def require_known(model: str) -> None:
    """Refuse a name that no file has; a model whose file is wrong for the moment is known.

    Raises:
        ContractError: there is no such file; names those that there are.
    """
    from datasets_defs.spec.files import model_names, spec_of

    if model not in model_names():
        spec_of(model)
