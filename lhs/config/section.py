"""What all parts of the configuration have in common."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about the names in it.

    Truth values are `true` and `false`; pydantic reads the words yes and no as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_values_apart(cls, value: Any, info: ValidationInfo) -> Any:
        # Python takes True for 1, and 1 for True.
        kind = cls.model_fields[str(info.field_name)].annotation
        if kind is bool or bool in get_args(kind):
            if value is None and type(None) in get_args(kind):
                return value
            if not isinstance(value, bool | str):
                raise ValueError("allowed are true and false")
        elif isinstance(value, bool):
            raise ValueError("true and false are not allowed here")
        if isinstance(value, str) and "\0" in value:
            raise ValueError("the character NUL is not allowed")
        return value
