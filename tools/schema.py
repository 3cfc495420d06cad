"""Writes the configuration's JSON schema, which editors complete YAML files by.

python tools/schema.py             after a change of a type in overtrain.config or a kind of figure
python tools/schema.py --check     whether the file is up to date
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from overtrain.configuration import Configuration  # noqa: E402

SCHEMA = ROOT / "scripts" / "overtrain" / "config" / "schema.json"


def generated() -> str:
    """The schema as text. No section is required: each file holds some of them."""
    schema = Configuration.model_json_schema()
    del schema["required"]
    return json.dumps(schema | {"title": "overtrain configuration"}, indent=1) + "\n"


if __name__ == "__main__":
    if "--check" not in sys.argv:
        SCHEMA.write_text(generated())
    elif SCHEMA.read_text() != generated():
        sys.exit(f"{SCHEMA.relative_to(ROOT)} is not that of the types: python tools/schema.py")
