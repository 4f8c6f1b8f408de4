"""What two models are beside what they cost: architecture, tokenizer, context, chat template, speed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from training.model.language_model import LanguageModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """What a model is. Bits per byte compare any two; these are for people, and for who serves them."""

    architecture: str
    parameters: int
    vocabulary: int
    """Tokens that its tokenizer knows."""
    context: int
    """Longest prompt plus completion, in tokens."""
    chat_template: bool
    """Whether it brings a template for messages."""

    @classmethod
    def of(cls, model: LanguageModel) -> "ModelKind":
        """Look at a loaded model."""
        return cls(
            architecture=str(model.network.config.model_type),
            parameters=int(model.network.num_parameters()),
            vocabulary=len(model.tokenizer),
            context=model.context,
            chat_template=bool(getattr(model.tokenizer, "chat_template", None)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKinds:
    """Both models of a comparison."""

    champion: ModelKind
    challenger: ModelKind

    @property
    def differ(self) -> bool:
        """Whether they are of different kinds, so that people and servers have to know."""
        return self.champion != self.challenger

    @property
    def lines(self) -> list[tuple[str, str, str]]:
        """Give each property with both values, in words."""
        return [
            (name.replace("_", " "), _word(before), _word(after))
            for (name, before), after in zip(
                asdict(self.champion).items(), asdict(self.challenger).values(), strict=True
            )
        ]

    @property
    def plain(self) -> Mapping[str, Any]:
        """Give both as plain values; empty where they are of one kind."""
        return asdict(self) if self.differ else {}


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
