"""One line for a fault: the key, its value, and what would be right."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from overtrain import PipelineError
from overtrain.config.section import Section

JSON_NAMES = {"int": "integer", "float": "number", "string": "string", "bool": "boolean"}
JSON_NAMES |= {"dict": "object", "model": "object", "list": "array"}
BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
NAME = "[key]"  # what pydantic calls an entry's name, where that is at fault
T = TypeVar("T")


def near(name: object, known: Iterable[object]) -> str:
    """'; allowed: ...', with the nearest known name first if one is near."""
    names = [str(own) for own in known]
    close = difflib.get_close_matches(str(name), names, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint}; allowed: {', '.join(names)}" if names else hint


def known(where: str, name: T, section: str, names: Iterable[T], verb: str = "is") -> None:
    """Raise PipelineError unless `name`, what `where` is or has, is one of a section's `names`."""
    names = list(names)
    if name not in names:
        raise PipelineError(f"{where} {verb} {name!r}, not in {section}{near(name, names)}")


def typed(model: type[Section], config: dict) -> Any:
    """`config` as a `model`; PipelineError with the deepest of its faults in one line."""
    try:
        return model.model_validate(config)
    except ValidationError as error:
        places = [(Place(model, config, fault["loc"]), fault) for fault in error.errors()]
    deepest = max(len(place.path) for place, _ in places)
    own = [(place, fault) for place, fault in places if len(place.path) == deepest]
    # A mistyped key is both unknown and missing under its right name: the former says which it is.
    own.sort(key=lambda found: found[1]["type"] != "extra_forbidden")
    first = own[0][0]
    same = [fault for place, fault in own if place.path == first.path]
    raise PipelineError(explain(first, same))


class Place:
    """Where in a configuration a fault is: its path, value, and the type and meaning of its key.

    pydantic's location also holds the tags of unions, which are no keys; types tell them apart.
    """

    def __init__(self, model: type[Section], config: dict, location: tuple):
        self.path: list[str] = []
        self.value: object = config
        self.type: object = model
        self.meaning: str | None = None
        self.parents: list[tuple[object, object]] = []
        for part in location:
            self.step(part)

    def step(self, part: str | int) -> None:
        if part == NAME:
            self.path.append(NAME)
            return
        plain = without_null(self.type)
        self.parents.append((plain, self.value))
        if isinstance(plain, type) and issubclass(plain, Section):
            field = plain.model_fields.get(str(part))
            self.type = field_type(field) if field else Any
            self.meaning = field.description if field else None
        elif get_origin(plain) is dict:
            self.type, self.meaning = get_args(plain)[1], self.meaning
            self.meaning = meaning_of(self.type) or self.meaning
        elif get_origin(plain) is list:
            self.type = get_args(plain)[0]
            self.meaning = meaning_of(self.type) or self.meaning
        else:  # a union: the part is a tag
            self.type = member(plain, part)
            self.parents.pop()
            return
        self.path.append(str(part))
        try:
            self.value = self.value[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            self.value = None

    @property
    def where(self) -> str:
        return ".".join(self.path) or "configuration"

    @property
    def parent(self) -> str:
        return ".".join(self.path[:-1]) or "configuration"


def field_type(field: FieldInfo) -> object:
    """A field's annotation, with what pydantic has taken out of it."""
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def unwrapped(kind: object) -> object:
    return unwrapped(get_args(kind)[0]) if get_origin(kind) is Annotated else kind


def is_union(kind: object) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def without_null(kind: object) -> object:
    """The type, without Annotated and `| None`."""
    kind = unwrapped(kind)
    if is_union(kind):
        others = [arm for arm in get_args(kind) if arm is not type(None)]
        if len(others) == 1:
            return without_null(others[0])
    return kind


def allows_null(kind: object) -> bool:
    kind = unwrapped(kind)
    return is_union(kind) and type(None) in get_args(kind)


def meaning_of(kind: object) -> str | None:
    for extra in get_args(kind)[1:] if get_origin(kind) is Annotated else ():
        if isinstance(extra, FieldInfo) and extra.description:
            return extra.description
    return None


def member(union: object, tag: object) -> object:
    """The arm of a union that a tag of pydantic's names."""
    for arm in get_args(union):
        extras = get_args(arm)[1:] if get_origin(arm) is Annotated else ()
        if any(isinstance(extra, Tag) and extra.tag == tag for extra in extras):
            return arm
        plain = unwrapped(arm)
        if isinstance(plain, type) and issubclass(plain, Section):
            for field in plain.model_fields.values():
                if get_origin(field.annotation) is Literal and tag in get_args(field.annotation):
                    return arm
    return Any


def explain(place: Place, faults: list[ErrorDetails]) -> str:
    """One line for the faults of one place: where, what it is, what is allowed."""
    fault = faults[0]
    kind, context = fault["type"], fault.get("ctx", {})
    if place.path[-1:] == [NAME]:
        entries = ".".join(place.path[:-2])
        return f"{entries} has an entry named {place.path[-2]}; {allowed_values(place, faults)}"
    if kind in ("missing", "union_tag_not_found"):
        if kind == "missing":
            return f"{place.parent}: the key {place.path[-1]!r} is missing{entry_hint(place, 2)}"
        return f"{place.where}: the key {context['discriminator']} is missing{entry_hint(place, 1)}"
    if kind == "extra_forbidden":
        section = place.parents[-1][0]
        allowed = section.model_fields  # type: ignore[attr-defined]
        return f"{place.parent}: unknown key {place.path[-1]!r}{near(place.path[-1], allowed)}"
    value, where = place.value, place.where
    if kind == "union_tag_invalid":
        key = context["discriminator"].strip("'")
        tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        where, value = f"{where}.{key}", value[key]  # type: ignore[index]
        close = difflib.get_close_matches(str(value), tags, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{where} is {json.dumps(value)}; it must be one of {', '.join(tags)}{hint}"
    elif kind == "value_error":
        rule = str(context["error"])
        if isinstance(value, dict):  # a check of a whole section, which names its key
            return f"{where}.{rule}"
    else:
        rule = allowed_values(place, faults)
    text = json.dumps(value, default=str)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{where} is {text}; {rule}" + (f" ({place.meaning})" if place.meaning else "")


def allowed_values(place: Place, faults: list[ErrorDetails]) -> str:
    fault = faults[0]
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in BOUNDS:
        name, words = BOUNDS[kind]
        return f"it must be {words} {context[name]:g}"
    if kind == "literal_error":
        values = get_args(without_null(place.type))
        one = f"one of {', '.join(map(str, values))}" if len(values) > 1 else values[0]
        return f"it must be {one}"
    if kind in ("too_short", "too_long"):
        name = "entries" if isinstance(place.value, dict) else "items"
        if kind == "too_short":
            return f"it needs at least {context['min_length']} {name}"
        return f"it takes at most {context['max_length']} {name}"
    if kind == "finite_number":
        return "it must be finite"
    if kind == "string_too_short":
        return "it must not be empty"
    if kind == "string_pattern_mismatch":
        return f"it must match {context['pattern']}"
    names = [JSON_NAMES.get(f["type"].split("_")[0], f["type"]) for f in faults]
    names += ["null"] if allows_null(place.type) else []
    text = f"it must be of type {' or '.join(dict.fromkeys(names))}"
    if "number" in names and isinstance(place.value, str):
        text += " (an exponent needs a point: 1.0e-5)"
    return text


def entry_hint(place: Place, up: int) -> str:
    """For an entry, `up` keys above, that an overlay may have begun under a mistyped name."""
    kind, entries = place.parents[-up] if len(place.parents) >= up else (None, None)
    if get_origin(kind) is dict and isinstance(entries, dict):
        name = place.path[-up]
        if close := difflib.get_close_matches(name, entries.keys() - {name}, 1):
            return f"; a new entry must be complete, or did you mean {close[0]!r}?"
    return ""
