"""The base of all models, and object metadata."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from controller.api.quantities import Time


def _to_field_name(name: str) -> str:
    return to_camel(name).removesuffix("Id") + "ID" if name.endswith("_id") else to_camel(name)


class Model(BaseModel):
    """Immutable, camelCase outside, snake_case inside."""

    model_config = ConfigDict(
        frozen=True, alias_generator=_to_field_name, populate_by_name=True, extra="ignore"
    )

    _all_fields: ClassVar[set[str]]

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls._all_fields = set(cls.model_fields)

    def model_post_init(self, _context: Any) -> None:
        """Share what pydantic notes about every single object: which fields were given, which nobody asks for here.

        Of an idle rollout in the operator's memory these sets were a third.
        """
        object.__setattr__(self, "__pydantic_fields_set__", self._all_fields)

    def __copy__(self) -> Self:
        copied = super().__copy__()
        object.__setattr__(copied, "__pydantic_fields_set__", self._all_fields)
        return copied

    def to_json(self) -> dict[str, object]:
        """The object as the API server stores it: no nulls, names in camelCase."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _only_ours(annotations: Any) -> Any:
    """Kubectl keeps a copy of the whole object in an annotation, which nobody here wants to hold in memory."""
    if not isinstance(annotations, dict):
        return annotations
    return {name: value for name, value in annotations.items() if name.startswith("agentrollout.dev/")}


class ObjectMeta(Model):
    """The part of Kubernetes' object metadata that decisions use."""

    name: str
    namespace: str
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    finalizers: tuple[str, ...] = ()
    annotations: Annotated[dict[str, str], BeforeValidator(_only_ours)] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"
