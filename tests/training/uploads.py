"""Versions whose files are uploaded once a session: a test's own model points to them, as a copy in MLflow would."""

from dataclasses import dataclass
from pathlib import Path

from training.registry.manifest import KEY
from training.registry.registry import MANIFEST_SHA256, Registry

VERSIONS = (1, 2, 3)
SOURCE = "uploaded"
"""The model in the registry whose versions the others point to."""


@dataclass(frozen=True)
class Uploads:
    """Where the files are."""

    url: str

    def offer(self, model: str) -> None:
        """Make versions 1, 2 and 3 of a model that has none yet, under the keys `MODEL|v1` to `MODEL|v3`."""
        client = Registry(self.url)._client
        client.create_registered_model(model)
        for version in VERSIONS:
            original = client.get_model_version(SOURCE, str(version))
            tags = {KEY: f"{model}|v{version}", MANIFEST_SHA256: original.tags[MANIFEST_SHA256]}
            made = client.create_model_version(
                model, source=original.source, run_id=original.run_id, tags=tags, await_creation_for=0
            )
            assert int(made.version) == version

    def anew(self, model: str, **aliases: int) -> Registry:
        """Give a model of any name versions 1, 2 and 3, and these aliases alone, whatever an earlier test left."""
        registry = Registry(self.url)
        if registry.find(model, f"{model}|v1") is None:
            self.offer(model)
        for name in registry.aliases(model):
            registry._client.delete_registered_model_alias(model, name)
        for name, version in aliases.items():
            registry._client.set_registered_model_alias(model, name, str(version))
        return registry


def uploaded(url: str, home: Path) -> Uploads:
    """Register three versions, each with weights of its own, as the loop does."""
    for version in VERSIONS:
        folder = model_folder(home / f"v{version}", f"weights of version {version}")
        key = f"{SOURCE}|v{version}"
        assert Registry(url).register(SOURCE, folder, key=key, tags={}, params={}, metrics={}) == version
    return Uploads(url)


def model_folder(folder: Path, weights: str) -> Path:
    """Make a folder that holds these weights and a tokenizer."""
    folder.mkdir()
    (folder / "model.safetensors").write_text(weights)
    (folder / "tokenizer.json").write_text(f"tokenizer of {weights}")
    return folder
