"""Who gives capacity: each reads how many replicas there are, and sets a number of them."""

import subprocess
from typing import Any, Protocol

from pydantic import TypeAdapter

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.spec.scaling import AnyScale, ScaleByCommand, ScaleByKubernetes, ScaleByMetric, Scaler

COMMAND_SECONDS = 120.0
TRY_AGAIN = 75
"""Exit code of a command that may succeed later: EX_TEMPFAIL of sysexits.h."""


class Giver(Protocol):
    """Sets a number of replicas; doing it twice changes nothing.

    Raises (every method):
        TransientError: it is away, or busy.
        ContractError: it refuses for good.
    """

    @property
    def name(self) -> str:
        """Say in words what is scaled."""
        ...

    def present(self, known: int) -> int | None:
        """Say how many replicas are wanted there now; `known` is what was set last, for who cannot be asked."""
        ...

    def set(self, replicas: int, *, before: int) -> None:
        """Have so many."""
        ...


class CommandGiver:
    """Runs the user's commands; no shell reads them."""

    def __init__(self, model: str, spec: ScaleByCommand) -> None:
        self._model, self._spec = model, spec
        self.name = f"the command {spec.run[0]}"

    def present(self, known: int) -> int | None:
        """Read the number that the command prints, or believe what was set."""
        if self._spec.read is None:
            return known
        output = self._run(self._spec.read, known, known).strip()
        if not output.isdecimal():
            raise ContractError(
                f"scale.read ({self._spec.read[0]} …) printed {output[:80]!r}; needed: a number of replicas"
            )
        return int(output)

    def set(self, replicas: int, *, before: int) -> None:
        """Run the command."""
        self._run(self._spec.run, replicas, before)

    def _run(self, command: tuple[str, ...], replicas: int, before: int) -> str:
        gpus = replicas * self._spec.gpus_per_replica
        words = {"replicas": replicas, "before": before, "gpus": gpus, "model": self._model}
        arguments = self._spec.arguments(command, words)
        shown = " ".join(arguments)[:200]
        try:
            done = subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as err:
            raise TransientError(f"scale: `{shown}` did not end within {COMMAND_SECONDS:g} s") from err
        except OSError as err:
            raise ContractError(f"scale: `{shown}` cannot be run ({err}); write the program's full path") from err
        if done.returncode == TRY_AGAIN:
            raise TransientError(f"scale: `{shown}` asks for another try: {_last(done.stderr)}")
        if done.returncode:
            raise ContractError(f"scale: `{shown}` ended with exit code {done.returncode}: {_last(done.stderr)}")
        return done.stdout


class MetricGiver:
    """Sets nothing: the exporter shows the number, and an autoscaler such as KEDA follows."""

    name = "whoever follows driftloop_scale_wanted_replicas"

    def present(self, known: int) -> int | None:
        """Give what the exporter shows."""
        return known

    def set(self, replicas: int, *, before: int) -> None:
        """Leave it to the exporter, which reads the stay."""


def giver_of(model: str, spec: Scaler) -> Giver:
    """Give who scales a model."""
    match spec:
        case ScaleByKubernetes():
            from monitors.scaling.kubernetes import KubernetesGiver

            return KubernetesGiver(spec)
        case ScaleByCommand():
            return CommandGiver(model, spec)
        case ScaleByMetric():
            return MetricGiver()


def scaler_of(target: dict[str, Any]) -> Scaler:
    """Read the section `scale` as a stay keeps it.

    Raises:
        ContractError: it is none that the loop scales by.
    """
    spec: AnyScale = TypeAdapter(AnyScale).validate_python(target)
    if not isinstance(spec, ScaleByKubernetes | ScaleByCommand | ScaleByMetric):
        raise ContractError(f"scale.kind is {spec.kind!r}: nothing is set by it")
    return spec


def _last(words: str) -> str:
    lines = [line for line in words.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
