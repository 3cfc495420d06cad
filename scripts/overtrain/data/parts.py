"""A corpus of the hub's text, made in parts: source files, their shards, the corpus.

A part is a few numbered source files of a data set ("00016-00031"). `download` needs the network,
and little else; `tokenise` needs processors and no network, as on a cluster's compute nodes; then
`assemble` gives the shards a second name in the corpus and copies nothing. What is finished waits
in a folder of work, outside the outputs that Snakemake clears, so that each goes on file by file.
The bytes of a corpus do not depend on how it was cut into parts.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

from tqdm import tqdm

from overtrain import PipelineError
from overtrain.config.corpora import numbers
from overtrain.data import tokenizer
from overtrain.data.corpora import SPLITS, read_back, write_manifest, write_shards
from overtrain.data.workers import pool as workers_pool
from overtrain.hub import client
from overtrain.hub.download import check_space, data_files, link
from overtrain.records.provenance import whole_folder, write_json

PART = "part.json"  # in the folder of a part: where it comes from, and what is in it


def download(config: dict, part: str, folder: Path, work: Path) -> None:
    """Fill `folder` with a part's source files and the tokenizer.

    A file that is half there is gone on with, and compared with the hub's hash.
    """
    source, vocabulary = config["source"], config["tokenizer"]["hub"]
    encoder = tokenizer.from_hub(**vocabulary)
    origin = {"dataset": source["dataset"], "revision": source["revision"], "tokenizer": vocabulary}
    files = {f"{number:05d}": source["files"].format(number) for number in numbers(part)}
    what = f"{source['dataset']} at {source['revision']}"
    with client.one_line(what):
        found = data_files(source["dataset"], source["revision"], list(files.values()), what)
        place = work / (found.commit or "copied")
        for name in files.values():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
        check_space(place, found.sizes, files.values(), what)
        for name in files.values():
            found.fetch(name, place / name)
    with whole_folder(folder) as temporary:
        for name in files.values():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            link(place / name, temporary / name)
        encoder.save(temporary)
        write_json(temporary / PART, {"files": files, "origin": origin})
    shutil.rmtree(work)


def tokenise(config: dict, texts: Path, folder: Path, work: Path, threads: int) -> None:
    """Fill `folder` with the shards of the source files in `texts`, a shard of each split a file.

    A process works on one file at a time; processes times the threads of each are `threads`. The
    shards in `work` stay, for a part that is asked for again before the corpus is there.
    """
    part = json.loads((texts / PART).read_text())
    files = part["files"]
    same_work(work, {"config": config, "origin": part["origin"]})
    processes = min(threads, len(files))
    shard_of = partial(tokenise_file, config, texts, work)
    with (
        workers_pool(processes, threads // processes) as pool,
        tqdm(total=len(files), unit="file", desc="tokenise") as bar,
    ):
        shards = []
        for shard in pool.map(shard_of, files, files.values()):
            shards.append(shard)
            bar.update()
    with whole_folder(folder) as temporary:
        for shard in shards:
            for split in SPLITS:
                give(work / shard[split]["file"], temporary, shard[split]["sha256"])
        tokenizer.load_encoder(texts).save(temporary)
        write_json(temporary / PART, {"origin": part["origin"], "shards": shards})


def tokenise_file(config: dict, texts: Path, work: Path, number: str, file: str) -> dict[str, dict]:
    """The shards of one source file, unless a former attempt finished them."""
    done = work / f"{number}.json"
    if done.exists():
        return json.loads(done.read_text())
    from datasets import load_dataset

    source = config["source"]
    dataset, column = source["dataset"], source["text_column"]
    with client.one_line(f"{dataset}, {file}"):
        rows = load_dataset(str(texts), data_files=file, split="train", streaming=True)
        if rows.column_names and column not in rows.column_names:
            raise PipelineError(f"{dataset}: no column {column!r}; it has {rows.column_names}")
        encoder = tokenizer.load_encoder(texts)
        shard = write_shards((r[column] for r in rows), encoder, config["held_out"], work, number)
    write_json(done, shard)
    return shard


def same_work(work: Path, identity: dict) -> None:
    """A folder that holds no shards but those of this configuration and source."""
    path, content = work / "identity.json", json.dumps(identity, sort_keys=True)
    if path.exists() and path.read_text() != content:
        print(f"{work}: removes shards of another configuration")
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def assemble(config: dict, parts: list[Path], folder: Path) -> dict:
    """Fill `folder` with the first shards of `parts` that hold `train_tokens`; the manifest.

    Surplus files are left out. PipelineError, with the key to change, if the parts hold too little.
    """
    source, wanted = config["source"], config["train_tokens"]
    own = [json.loads((part / PART).read_text()) for part in parts]
    for part, content in zip(parts, own, strict=True):
        if content["origin"] != own[0]["origin"]:
            raise PipelineError(
                f"{part}: made of {content['origin']}, but {parts[0]} of {own[0]['origin']}; "
                f"remove the older one"
            )
    shards: list[dict[str, dict]] = []
    total = 0
    with whole_folder(folder) as temporary:
        for part, content in zip(parts, own, strict=True):
            for shard in content["shards"]:
                if total >= wanted:
                    break
                for split in SPLITS:
                    give(part / shard[split]["file"], temporary, shard[split]["sha256"])
                shards.append(shard)
                total += shard["train"]["tokens"]
        if total < wanted:
            raise PipelineError(
                f"corpora.{folder.name}.source.file_count is {source['file_count']}, and so many "
                f"files of {source['dataset']} hold {total:,} training tokens; train_tokens asks "
                f"for {wanted:,}: raise file_count or lower train_tokens (what is there is kept)"
            )
        return write_manifest(temporary, tokenizer.load_encoder(parts[0]), shards, own[0]["origin"])


def give(path: Path, folder: Path, digest: str) -> None:
    """A shard in `folder`: a second name, or where that cannot be a copy, which is verified."""
    target = folder / path.name
    link(path, target)
    if not target.samefile(path):
        read_back(target, digest)
