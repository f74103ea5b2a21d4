import tracemalloc

import numpy as np
import pytest

from satjax.features.vectors import VectorStore, vectors_of

VECTORS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    store = VectorStore(tmp_path / "store")
    store.keep(["a", "b", "ü\n"], VECTORS)
    return store


def test_kept_vectors_are_found_by_text_in_any_order(store):
    found = VectorStore(store.directory).find(["ü\n", "c", "a", "a"])
    assert set(found) == {0, 2, 3}
    np.testing.assert_array_equal(np.stack([found[0], found[2], found[3]]), VECTORS[[2, 0, 0]])
    assert found[0].dtype == np.float32


def test_segments_add_up(store):
    store.keep(["c"], VECTORS[:1] + 1)
    assert set(store.find(["a", "b", "c", "d"])) == {0, 1, 2}
    assert len(list(store.directory.iterdir())) == 2


def test_nothing_is_found_where_nothing_was_kept(tmp_path):
    assert VectorStore(tmp_path / "none").find(["a"]) == {}


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"\x93NUMPY"])
def test_a_damaged_segment_hides_only_its_own(store, damage):
    store.keep(["c"], VECTORS[:1])
    for path in store.directory.iterdir():
        with np.load(path) as segment:
            holds_three = len(segment["vector"]) == 3
        if holds_three:
            path.write_bytes(damage)
    assert set(store.find(["a", "b", "c"])) == {2}


def test_a_directory_that_cannot_be_written_costs_time_only(tmp_path, caplog):
    (tmp_path / "file").write_text("x")
    store = VectorStore(tmp_path / "file" / "store")
    store.keep(["a"], VECTORS[:1])
    assert "not kept" in caplog.text
    assert store.find(["a"]) == {}


def test_a_write_that_fails_leaves_nothing_behind(store, monkeypatch, caplog):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    store.keep(["c"], VECTORS[:1])
    assert "no disk space left" in caplog.text
    assert len(list(store.directory.iterdir())) == 1


def lengths(texts):
    """A batch of two at a time, the longest first."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    for start in range(0, len(order), 2):
        index = np.array(order[start : start + 2])
        yield index, np.array([[len(texts[i])] for i in index], np.float32)


TEXTS = ["a", "bbb", "cc", "", "ddddd"]


def test_vectors_come_in_the_order_of_the_texts():
    heard = []
    found = vectors_of(TEXTS, lengths, on_progress=lambda *done: heard.append(done))
    np.testing.assert_array_equal(found, [[1], [3], [2], [0], [5]])
    assert heard == [(0, 5), (2, 5), (4, 5), (5, 5)]


def test_only_what_is_missing_is_computed(tmp_path):
    store = VectorStore(tmp_path)
    vectors_of(TEXTS[1:3], lengths, store)
    asked = []
    found = vectors_of(TEXTS, lambda texts: asked.extend(texts) or lengths(texts), store)
    assert asked == ["a", "", "ddddd"]
    np.testing.assert_array_equal(found, [[1], [3], [2], [0], [5]])
    np.testing.assert_array_equal(
        vectors_of(TEXTS[::-1], lambda texts: pytest.fail("computed again"), store), found[::-1]
    )


def test_an_interruption_keeps_what_was_computed(tmp_path):
    def interrupted(texts):
        yield next(lengths(texts))
        raise KeyboardInterrupt

    store = VectorStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        vectors_of(TEXTS, interrupted, store)
    assert set(store.find(TEXTS)) == {1, 4}


def test_of_other_texts_no_vectors_are_read(tmp_path, monkeypatch):
    store, read = VectorStore(tmp_path), []
    for n in range(6):
        store.keep([f"text {n}", f"more {n}"], np.full((2, 3), n, np.float32))
    entry = np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda self, key: read.append(key) or entry(self, key))
    assert store.find(["more 4", "none"])[0].tolist() == [4.0, 4.0, 4.0]
    assert read.count("vector") == 1
    read.clear()
    assert len(store.find(["text 0"])) == 1
    assert read.count("digest") <= 6
    assert read[-1] == "vector", "what is found is the end of it"


def test_vectors_are_in_memory_once(tmp_path):
    """Those of a hundred thousand instructions are gigabytes."""
    texts = [f"text {n}" for n in range(1024)]

    def compute(texts):
        for start in range(0, len(texts), 64):
            index = np.arange(start, min(start + 64, len(texts)))
            yield index, np.full((len(index), 2048), 1, np.float32)

    store = VectorStore(tmp_path)
    vectors_of(texts[:256], compute, store)
    tracemalloc.start()
    found = vectors_of(texts, compute, store)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found == 1).all()
    assert most < 1.6 * found.nbytes, "with a segment that is read or written"
