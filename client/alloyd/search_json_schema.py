"""The JSON schema of a search spec, for editors: what the reader takes, a knob wherever one may stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from .recipe_schema import Recipe
from .search_schema import Knob, SearchFile

_TEMPLATE: Final = "#/$defs/{name}"
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_OUR_OWN: Final = ("warnings",)


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of a spec. YAML is checked as the JSON it stands for; ``null`` is "left out"."""
    (top,), parts = msgspec.json.schema_components([SearchFile], ref_template=_TEMPLATE)
    parts |= msgspec.json.schema_components([Knob], ref_template=_TEMPLATE)[1]
    spec = parts["SearchFile"]
    for name in _OUR_OWN:
        del spec["properties"][name]
    for bound in ("low", "high"):
        # What YAML 1.1 reads 1e-5 as.
        parts["Knob"]["properties"][bound]["anyOf"].append({**_TEXT, "pattern": "^[-+0-9.eE]+$"})
    parts |= _recipe_parts()
    spec["properties"]["recipe"] = {"anyOf": [_ref("Recipe"), {"type": "null"}]}
    spec["properties"]["options"]["additionalProperties"] = _ref("Scalar")
    spec["properties"]["optimiser"] = _either(spec["properties"]["optimiser"], _TEXT)
    spec["properties"]["screen"]["anyOf"].append({"const": False})
    for place in (spec["properties"], *(parts[each]["properties"] for each in ("Splits", "DataFlow"))):
        for field in place.values():
            if field.get("type") == "array" and field.get("items") == _TEXT:
                field |= _either({"type": "array", "items": _TEXT}, _TEXT)
                del field["type"], field["items"]
    spec["anyOf"] = [{"required": ["recipe"]}, {"required": ["path"]}]
    return {"$schema": _DRAFT, "title": "alloyd search spec", **top, "$defs": parts}


_TEXT: Final = {"type": "string"}
_NULL: Final = {"type": "null"}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": _TEMPLATE.format(name=name)}


def _either(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": list(schemas)}


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1}


def _mapping(fields: dict[str, Any], required: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            key: each if key in required else _either(each, _NULL) for key, each in fields.items()
        },
        "required": list(required),
        "additionalProperties": False,
    }


def _recipe_parts() -> dict[str, Any]:
    """What a recipe's YAML looks like, which is not what its structs do: models are text, conditions mappings."""
    value = _either(_ref("Scalar"), _ref("Knob"))
    model = _either(_TEXT, {"type": "object"})
    settings = {"type": "object", "additionalProperties": _ref("Setting")}
    sources = {"slices": _list(_ref("Slice")), "models": _list(_ref("InputModel"))}
    keys: dict[str, dict[str, Any]] = {each: {} for each in Recipe.__struct_fields__ if each not in _OUR_OWN}
    fields = {
        **keys,
        **sources,
        "merge_method": _either(_TEXT, _ref("Knob")),
        "modules": {"type": "object", "additionalProperties": _ref("Module")},
        "base_model": model,
        "parameters": settings,
    }
    return {
        "Scalar": {"type": ["boolean", "number", "string"]},
        "Condition": _mapping({"filter": _TEXT, "value": _either(value, _list(value))}, ["value"]),
        "Setting": _either(
            value, {"type": "array", "items": value}, _list(_ref("Condition")), _ref("Condition")
        ),
        "InputModel": _mapping({"model": model, "parameters": settings}, ["model"]),
        "Source": _mapping(
            {
                "model": model,
                "layer_range": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0},
                    "minItems": 2,
                    "maxItems": 2,
                },
                "parameters": settings,
            },
            ["model", "layer_range"],
        ),
        "Slice": _mapping(
            {
                "sources": _list(_ref("Source")),
                "base_model": model,
                "parameters": settings,
                "residual_weight": {"type": "number"},
            },
            ["sources"],
        ),
        "Module": _mapping({**sources, "parameters": settings}, []),
        "Recipe": _mapping(fields, ["merge_method"]),
    }
