"""Writes the configuration's JSON schema, which editors complete YAML files by.

python tools/schema.py             after a change of a type in overtrain.config or a kind of figure
python tools/schema.py --check     whether the file is up to date
"""

import json
import sys
from pathlib import Path

from pydantic.json_schema import GenerateJsonSchema

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from overtrain.configuration import Configuration  # noqa: E402

SCHEMA = ROOT / "scripts" / "overtrain" / "config" / "schema.json"


class Untitled(GenerateJsonSchema):
    """Without the titles that pydantic makes of the keys' names."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def generated() -> str:
    """The schema as text, a line for each type.

    No key is required: each file says some of them, and one that is laid over says few.
    """
    schema = Configuration.model_json_schema(schema_generator=Untitled)
    schema |= {"title": "overtrain configuration"}
    for part in (schema, *schema["$defs"].values()):
        part.pop("required", None)
    types = ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in schema.pop("$defs").items())
    sections = ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in schema.pop("properties").items())
    rest = json.dumps(schema)[1:-1]
    return f'{{{rest},\n"properties": {{\n{sections}}},\n"$defs": {{\n{types}}}}}\n'


if __name__ == "__main__":
    if "--check" not in sys.argv:
        SCHEMA.write_text(generated())
    elif SCHEMA.read_text() != generated():
        sys.exit(f"{SCHEMA.relative_to(ROOT)} is not that of the types: python tools/schema.py")
