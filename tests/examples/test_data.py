"""The data example: words are counted once, whoever counts them, and whoever dies over it."""

import re
from collections import Counter

import pytest

pytest.importorskip("matplotlib", reason="the data example needs fray-actors[examples]")

from examples.corpus import documents
from examples.data import __main__ as command
from examples.data.pipeline import (
    count_words,
    digest_of,
    normal,
    paragraphs,
    ranked,
    store_paragraphs,
    words,
)
from examples.data.plot import draw_words
from zephyr import Dataset, ThreadpoolBackend


def test_words_are_lower_case_and_counted_for_each_paragraph():
    found = words({"chapter": "c", "number": 0, "text": "For a, for A-b: __init__ x1 I"})
    assert {each["word"]: each["times"] for each in found} == {
        "for": 2,
        "a": 2,
        "__init__": 1,
        "i": 1,
    }


def test_the_pipeline_counts_what_a_loop_over_the_text_counts(tmp_path):
    backend, output = ThreadpoolBackend(2), str(tmp_path)
    files = store_paragraphs(backend, output, 3)
    paths = backend.execute(count_words(files, output, 4, None))
    rows = ranked(backend.execute(Dataset.from_list(paths).load_jsonl()))

    unique = {normal(each): each for each in paragraphs(list(documents()))}
    expected = Counter()
    for paragraph in unique.values():
        expected.update({each["word"]: each["times"] for each in words(paragraph)})
    assert {row["word"]: row["times"] for row in rows} == expected
    assert [row["times"] for row in rows] == sorted(expected.values(), reverse=True)
    kinds = {row["word"]: row["kind"] for row in rows}
    assert (kinds["the"], kinds["lambda"], kinds["print"]) == ("word", "keyword", "built-in")

    assert draw_words(output, rows) == f"{output}/words.png"
    assert (tmp_path / "words.png").read_bytes().startswith(b"\x89PNG")
    before = digest_of(output)
    backend.execute(count_words(files, output, 4, None))
    assert digest_of(output) == before


@pytest.mark.integration
@pytest.mark.timeout(120)
def test_a_worker_that_is_killed_changes_no_byte(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FRAY_CLUSTER_SPEC", "local?use_processes=1")
    assert command.main(["--kill-worker", "--output", str(tmp_path)]) == 0
    told = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert re.search(r"tasks, 0 workers lost, digest (\w+) .* 1 workers lost, digest \1", told)
    assert "the same files" in told
    assert (tmp_path / "words.png").exists()
