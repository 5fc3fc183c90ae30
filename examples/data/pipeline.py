"""The pipeline: paragraphs, each once; their words, counted; what each is to Python."""

from __future__ import annotations

import builtins
import hashlib
import keyword
import os
import re
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from examples.corpus import documents
from examples.storage import Folder
from zephyr import Backend, Dataset

Record = dict[str, Any]

WORD = re.compile(r"[A-Za-z_]{2,}|[ai]\b", re.IGNORECASE)


# ---- functions of the pipeline; workers import them from here


def paragraphs(names: list[str]) -> Iterator[Record]:
    """The paragraphs of some chapters.

    Args:
        names: The chapters.
    """
    texts = documents()
    for name in names:
        for number, text in enumerate(filter(str.strip, texts[name].split("\n\n"))):
            yield {"chapter": name, "number": number, "text": text}


def normal(paragraph: Record) -> str:
    """What equal paragraphs have in common: their words, not their lines."""
    return " ".join(paragraph["text"].split())


def words(paragraph: Record) -> Iterator[Record]:
    """The words of a paragraph, and how often it has each."""
    found = Counter(match.lower() for match in WORD.findall(paragraph["text"]))
    for word, times in found.items():
        yield {"word": word, "times": times, "chapter": paragraph["chapter"]}


def by_word(record: Record) -> str:
    """The key of what is known of a word."""
    return record["word"]


def counted(word: str, found: Iterator[Record]) -> Record:
    """How often a word is found, and in how many chapters."""
    times, chapters = 0, set[str]()
    for each in found:
        times += each["times"]
        chapters.add(each["chapter"])
    return {"word": word, "times": times, "chapters": len(chapters)}


def names_of_python(kind: str) -> Iterator[Record]:
    """The words that mean something to Python itself."""
    found = {
        "keyword": (*keyword.kwlist, *keyword.softkwlist),
        "built-in": (name for name in dir(builtins) if not name.startswith("_")),
    }
    for name in sorted({each.lower() for each in found[kind]}):
        yield {"word": name, "kind": kind}


def with_kind(word: Record, name: Record | None) -> Record:
    """A word, and what it is to Python."""
    return {**word, "kind": "word" if name is None else name["kind"]}


@dataclass(frozen=True)
class DiesOnce:
    """Ends its own process, as ``kill -9`` does, the first time that it meets a paragraph.

    Args:
        marker: A path of this machine, where it notes that it has been done.
        chapter: Which chapter's first paragraph it is.
    """

    marker: str
    chapter: str

    def __call__(self, paragraph: Record) -> Record:
        """Gives the paragraph back, if at all."""
        if (paragraph["chapter"], paragraph["number"]) == (self.chapter, 0):
            try:
                os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return paragraph  # the worker that came in its place
            os.kill(os.getpid(), signal.SIGKILL)
        return paragraph


# ---- the pipeline


def store_paragraphs(backend: Backend, output: str, shards: int) -> list[str]:
    """Writes the text to files of paragraphs.

    Args:
        backend: Who does it.
        output: The folder (fsspec).
        shards: How many files, ≥ 1.

    Returns:
        Their paths.
    """
    names = list(documents())
    parts = [names[at::shards] for at in range(shards)]
    dataset = Dataset.from_list(parts).flat_map(paragraphs)
    return backend.execute(dataset.write_jsonl(output + "/paragraphs/{shard:03d}.jsonl.gz"))


def count_words(files: list[str], output: str, shards: int, dies: DiesOnce | None) -> Dataset[str]:
    """What is to be done with the paragraphs; nothing is done before it is executed.

    Args:
        files: Of paragraphs.
        output: The folder of the result (fsspec).
        shards: Of the result, ≥ 1.
        dies: Ends one of the workers.
    """
    texts = Dataset.from_list(files).load_jsonl()
    if dies is not None:
        texts = texts.map(dies)
    counts = (
        texts.deduplicate(normal, num_output_shards=shards)
        .flat_map(words)
        .group_by(by_word, counted, num_output_shards=shards)
    )
    # Of a word that is both, as `type` is, the first is kept: that of the first shard.
    kinds = (
        Dataset.from_list(["keyword", "built-in"])
        .flat_map(names_of_python)
        .deduplicate(by_word, num_output_shards=shards)
    )
    return counts.sorted_merge_join(
        kinds, left_key=by_word, right_key=by_word, combiner=with_kind, how="left"
    ).write_jsonl(output + "/words/{shard:03d}.jsonl.zst")


def ranked(rows: Iterable[Record]) -> list[Record]:
    """Words by how often they are found, with their ranks."""
    ordered = sorted(rows, key=lambda row: (-row["times"], row["word"]))
    return [{**row, "rank": rank} for rank, row in enumerate(ordered, 1)]


def digest_of(output: str) -> str:
    """Of the bytes of all files of the result.

    Args:
        output: The folder of the result (fsspec).
    """
    found = hashlib.sha256()
    folder = Folder(output + "/words")
    for name in folder.names():
        found.update(name.encode() + folder.read(name))
    return found.hexdigest()[:16]
