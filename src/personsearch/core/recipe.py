"""Loading a recipe: YAML into frozen models that refuse an unknown key, overridden as ``a.b=value``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from personsearch.core.errors import InputError


class StrictModel(BaseModel):
    """Base of every recipe and manifest part: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), ser_json_inf_nan="strings")


ModelT = TypeVar("ModelT", bound=BaseModel)
ADDED_LATER: dict[str, JsonValue] = {"added_later": True}
"""``json_schema_extra`` of a field that came after recipes were hashed without it; see `recipe_hash`."""


def load_recipe(path: Path, model: type[ModelT], overrides: Sequence[str] = ()) -> ModelT:
    """Reads a YAML recipe and applies ``a.b=value`` overrides (values are YAML) in the order given.

    Raises:
        InputError: the file is missing or not YAML, a key is unknown or a value impossible.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot be read", where=str(path), expected="a YAML recipe", remedy=str(error)) from None
    except yaml.YAMLError as error:
        raise InputError("is not valid YAML", where=str(path), expected="a YAML recipe", remedy=str(error)) from None
    if not isinstance(content, dict):
        raise InputError("holds no mapping", where=str(path), expected="`key: value` lines at the top level")
    return validate(model, apply_overrides(content, overrides), where=str(path))


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """``content`` changed in place by ``a.b=value`` overrides, in the order given; `InputError` on a malformed one."""
    for override in overrides:
        _apply(content, override)
    return content


def validate(model: type[ModelT], content: Any, *, where: str) -> ModelT:
    """Checks plain data against ``model``; the first problem becomes an `InputError` that names the field."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        field, first = _first_problem(error, content)
        if first["type"] == "union_tag_invalid":
            message, expected = f"`{field}.kind` is '{first['ctx']['tag']}'", "one of " + first["ctx"]["expected_tags"]
        elif first["type"] == "union_tag_not_found":
            message, expected = f"key `{field}.kind` is missing", ""
        elif first["type"] == "extra_forbidden":
            message, expected = f"unknown key `{field}`", ""
        elif first["type"] == "missing":
            message, expected = f"key `{field}` is missing", ""
        else:
            message, expected = f"`{field}` is {first['input']!r}", first["msg"][:1].lower() + first["msg"][1:]
        raise InputError(
            message, where=where, expected=expected, remedy="the keys are those of " + model.__name__
        ) from None


def _first_problem(error: ValidationError, content: Any) -> tuple[str, ErrorDetails]:
    """The first field that is wrong, and in what way.

    A union gives a problem for each of its members; the one that got furthest into the value is what was meant.
    """
    problems = [(_field_name(one["loc"], content), one) for one in error.errors()]
    first = problems[0][0]
    own = [(field, one) for field, one in problems if field == first or field.startswith(f"{first}.")]
    return max(own, key=lambda pair: pair[0].count("."))


def recipe_hash(recipe: BaseModel) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the resolved recipe; equal for equal settings.

    Fields marked `ADDED_LATER` count where they are not at their default, so that runs from before still are known.
    """
    text = json.dumps(_without_unused(recipe, recipe.model_dump(mode="json")), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_unused(model: BaseModel, content: dict[str, Any]) -> dict[str, Any]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if field.json_schema_extra == ADDED_LATER and value == field.default:
            del content[name]
        elif isinstance(value, BaseModel):
            content[name] = _without_unused(value, content[name])
    return content


def dump_recipe(recipe: BaseModel) -> str:
    """The resolved recipe as YAML, every default written out; `load_recipe` reads it back equal."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def _field_name(loc: Sequence[int | str], content: Any) -> str:
    """``a.b.c`` as the file has it: pydantic's location also names the member of a union, which the file does not."""
    names, node = [], content
    for index, part in enumerate(loc):
        within = part in node if isinstance(node, dict) else isinstance(part, int)
        # No key of the file: a member of a union, or, last in a group of keys, one that is missing.
        if not within and (index < len(loc) - 1 or not isinstance(node, dict)):
            continue
        names.append(str(part))
        if isinstance(node, dict):
            node = node.get(part)
        elif isinstance(node, list | tuple) and isinstance(part, int):
            node = node[part] if part < len(node) else None
    return ".".join(names) or "(top level)"


def _apply(content: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise InputError(f"override `{override}`", expected="`a.b=value`")
    node: Any = content
    *parents, leaf = name.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise InputError(f"override `{override}`: `{parent}` is not a group of keys")
    try:
        node[leaf] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"override `{override}`: the value is not valid YAML") from None
