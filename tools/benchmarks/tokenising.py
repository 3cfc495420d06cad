"""Tokens a processor-second of rule tokenise, on the docstrings of installed packages.

    python tools/benchmarks/tokenising.py --threads 2

Four source files as C4 has them, in the tokens of a byte-level BPE of OLMo's size, trained on
the same text. Time of processors, start-up of the processes and imports too.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from overtrain.data import docstrings, parts, tokenizer

PACKAGES = ["scipy", "sklearn", "pandas", "numpy", "matplotlib", "transformers"]
VOCABULARY = 50280  # OLMo-1B's
FILES = 4
COPIES = 4  # of the text in each file, so that start-up counts for little


def processor_seconds() -> float:
    """Of this process and of those that have ended."""
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in own)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--threads", type=int, required=True, help="of the job")
    threads = parser.parse_args().threads
    texts = [document.text for document in docstrings.extract(PACKAGES, workers=threads)]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts) * COPIES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tokenizer").mkdir()
        tokenizer.train_bpe(texts, VOCABULARY).save(folder / "tokenizer")
        for number in range(FILES):
            with gzip.open(folder / f"{number}.json.gz", "wt") as file:
                file.write(rows)
        hub = {"repository": str(folder / "tokenizer"), "revision": "main"}
        source = {"dataset": name, "revision": "main", "files": "{}.json.gz", "text_column": "text"}
        config = {"source": source, "held_out": 10000}
        config["tokenizer"] = {"hub": hub | {"end_of_text": tokenizer.END_OF_TEXT}}
        parts.download(config, f"0-{FILES - 1}", folder / "texts", folder / "work")
        began, used = time.perf_counter(), processor_seconds()
        parts.tokenise(config, folder / "texts", folder / "shards", folder / "done", threads)
        took, used = time.perf_counter() - began, processor_seconds() - used
        shards = json.loads((folder / "shards" / parts.PART).read_text())["shards"]
        tokens = sum(part["tokens"] for shard in shards for part in shard.values())
        packed = sum(path.stat().st_size for path in folder.glob("*.json.gz"))
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{tokens:,} tokens of {len(rows) * FILES / 1e6:.0f} MB of text, {packed / 1e6:.0f} packed"
    )
    print(f"{took:.1f} s, {used:.1f} processor-seconds, {used / took:.2f} processors busy")
    print(f"{tokens / used / 1e6:.2f} M tokens a processor-second, at most {most:.0f} MB a process")


if __name__ == "__main__":
    main()
