"""Token shards, from parquet files that the tests make."""

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed; pip install 'lazy-attention[shards]'")
pq = pytest.importorskip("pyarrow.parquet")

from lazy_attention.shards import BYTES, HEADER, Tokenizer, main, read_shard, write_shards  # noqa: E402

WORDS = Tokenizer(lambda text: np.array([len(word) for word in text.split()]), b"lengths of words", "uint16")


@pytest.fixture
def parquet(tmp_path):
    texts = ["Once upon a time", "ä ö ü", None, "", "the end"]
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table({"id": range(5), "text": texts}), path, row_group_size=2)
    return path


def test_the_tokens_are_the_bytes_of_the_documents(parquet, tmp_path):
    (path,) = write_shards(parquet, tmp_path / "shards")
    shard = read_shard(path, tokenizer=BYTES)
    assert path.name == "part-00000.tokens" and shard.dtype == "uint8"
    assert shard.tokens.tobytes().decode() == "Once upon a time\n\nä ö ü\n\n\n\nthe end\n\n"


def test_shards_are_cut_where_they_are_full(parquet, tmp_path):
    whole = read_shard(write_shards(parquet, tmp_path / "one")[0]).tokens
    cut = [read_shard(path).tokens for path in write_shards(parquet, tmp_path / "many", tokens_per_shard=7)]
    assert [len(tokens) for tokens in cut[:-1]] == [7] * (len(cut) - 1) and 0 < len(cut[-1]) <= 7
    assert np.array_equal(np.concatenate(cut), whole)


def test_another_tokenizer(parquet, tmp_path):
    (path,) = write_shards(parquet, tmp_path, tokenizer=WORDS)
    shard = read_shard(path, tokenizer=WORDS)
    assert shard.tokens.tolist() == [4, 4, 1, 4, 1, 1, 1, 3, 3]
    assert shard.tokens.dtype == np.dtype("<u2")
    with pytest.raises(ValueError, match="tokens of another vocabulary"):
        read_shard(path, tokenizer=BYTES)


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(groups):
        path = tmp_path / f"{groups}.parquet"
        random = np.random.default_rng(0)
        schema = pa.schema([("text", pa.string())])
        with pq.ParquetWriter(path, schema, compression="none") as writer:
            for _ in range(groups):
                writer.write_table(pa.table({"text": [random.bytes(2000).hex() for _ in range(100)]}, schema))
        pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
        pa.set_memory_pool(pool)
        try:
            paths = write_shards(path, tmp_path / str(groups))
        finally:
            pa.set_memory_pool(before)
        assert sum(len(read_shard(p).tokens) for p in paths) == groups * 100 * 4002
        return pool.max_memory()

    assert 0 < peak(40) < 2 * peak(4)


@pytest.mark.parametrize("place, words", [(0, "is not a token shard"), (8, "version"), (HEADER.size + 3, "checksum"), (None, "bytes, expected")])
def test_damage_is_noticed(parquet, tmp_path, place, words):
    (path,) = write_shards(parquet, tmp_path)
    data = bytearray(path.read_bytes())
    if place is None:
        del data[-1]
    else:
        data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=words):
        read_shard(path)


def test_refusals(parquet, tmp_path, capsys):
    with pytest.raises(ValueError, match="has no column 'body'; choose one of id, text"):
        write_shards(parquet, tmp_path, text_field="body")
    with pytest.raises(ValueError, match="column 'id' is int64, expected text"):
        write_shards(parquet, tmp_path, text_field="id")
    (tmp_path / "no.parquet").write_bytes(b"PAR")
    with pytest.raises(ValueError, match="is not a parquet file"):
        write_shards(tmp_path / "no.parquet", tmp_path)
    assert main([str(tmp_path / "missing.parquet"), str(tmp_path)]) == 2
    assert "does not exist; name a parquet file" in capsys.readouterr().err


def test_a_failure_leaves_nothing_half_written(parquet, tmp_path):
    def fails(text):
        if text.startswith("the"):
            raise RuntimeError("broken")
        return BYTES.encode(text)

    with pytest.raises(RuntimeError):
        write_shards(parquet, tmp_path / "out", tokenizer=Tokenizer(fails, b"bytes", "uint8"))
    assert not list((tmp_path / "out").iterdir())
