"""Token shards from parquet: one text column, read row group by row group, in bounded memory.

    python -m lazy_attention.shards PARQUET FOLDER [--text-field text] [--tokens 100000000]

A shard is a header of 96 bytes, little-endian, and the tokens:

| bytes | what |
|---|---|
| 8 | magic `LAZYTOKS` |
| 4 | version, 1 |
| 8 | dtype of the tokens: `uint8`, `uint16` or `uint32`, filled up with zero bytes |
| 32 | SHA-256 of the vocabulary |
| 8 | number of tokens |
| 32 | SHA-256 of the tokens' bytes |
| 4 | zero |
"""

from __future__ import annotations

import argparse
import hashlib
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator

import numpy as np
from numpy.typing import NDArray

MAGIC, VERSION = b"LAZYTOKS", 1
HEADER = struct.Struct("<8sI8s32sQ32s4x")
DTYPES = ("uint8", "uint16", "uint32")

Tokens = NDArray[Any]


@dataclass(frozen=True)
class Tokenizer:
    """Text to tokens; `vocabulary` is what tells one tokenizer from another, and is hashed into every shard."""

    encode: Callable[[str], Tokens]
    vocabulary: bytes
    dtype: str

    @property
    def vocabulary_hash(self) -> bytes:
        return hashlib.sha256(self.vocabulary).digest()


#: A token a byte, as `lazy train` reads text; documents are joined by an empty line.
BYTES = Tokenizer(lambda text: np.frombuffer(text.encode() + b"\n\n", np.uint8), b"bytes", "uint8")


@dataclass(frozen=True)
class Shard:
    """A shard on disk; `tokens` is mapped, not read."""

    path: Path
    dtype: str
    vocabulary_hash: bytes
    tokens: Tokens


class _Writer:
    """One shard in the making: tokens first, the header last, the name when it is whole."""

    def __init__(self, path: Path, tokenizer: Tokenizer) -> None:
        self.path, self.tokenizer, self.count = path, tokenizer, 0
        self.partial = path.with_name(path.name + ".partial")
        self.hash = hashlib.sha256()
        self.file: BinaryIO = self.partial.open("wb")
        self.file.write(bytes(HEADER.size))

    def add(self, tokens: Tokens) -> None:
        data = tokens.astype("<" + np.dtype(self.tokenizer.dtype).str[1:]).tobytes()
        self.file.write(data)
        self.hash.update(data)
        self.count += len(tokens)

    def close(self) -> Path:
        t = self.tokenizer
        self.file.seek(0)
        self.file.write(HEADER.pack(MAGIC, VERSION, t.dtype.encode(), t.vocabulary_hash, self.count, self.hash.digest()))
        self.file.close()
        os.replace(self.partial, self.path)
        return self.path

    def abandon(self) -> None:
        self.file.close()
        self.partial.unlink(missing_ok=True)


def _texts(path: Path, text_field: str, rows: int) -> Iterator[str]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("reading parquet takes pyarrow; pip install 'lazy-attention[shards]'") from error
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a parquet file ({error}); name one that is") from error
    with file:
        names = file.schema_arrow.names
        if text_field not in names:
            raise ValueError(f"{path} has no column {text_field!r}; choose one of {', '.join(names)} with --text-field")
        kind = file.schema_arrow.field(text_field).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise ValueError(f"{path}: column {text_field!r} is {kind}, expected text; choose another with --text-field")
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=[text_field]):
                for text in batch.column(0):
                    if text.is_valid:
                        yield text.as_py()


def write_shards(
    parquet: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    tokenizer: Tokenizer = BYTES,
    text_field: str = "text",
    tokens_per_shard: int = 100_000_000,
    rows: int = 256,
) -> list[Path]:
    """Writes `folder`/STEM-00000.tokens, ...; a document may go on in the next shard. Returns their paths.

    Holds one row group's text column, and never more than `rows` of its documents as Python strings.
    """
    if tokenizer.dtype not in DTYPES:
        raise ValueError(f"the tokenizer's dtype is {tokenizer.dtype!r}; choose one of {', '.join(DTYPES)}")
    if tokens_per_shard < 1:
        raise ValueError(f"tokens_per_shard is {tokens_per_shard}, must be at least 1")
    source, target = Path(parquet), Path(folder)
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist; name a parquet file")
    target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    writer: _Writer | None = None
    try:
        for text in _texts(source, text_field, rows):
            tokens = tokenizer.encode(text)
            while len(tokens):
                if writer is None:
                    writer = _Writer(target / f"{source.stem}-{len(written):05d}.tokens", tokenizer)
                room = tokens_per_shard - writer.count
                writer.add(tokens[:room])
                tokens = tokens[room:]
                if writer.count == tokens_per_shard:
                    written.append(writer.close())
                    writer = None
        if writer is not None:
            written.append(writer.close())
            writer = None
    finally:
        if writer is not None:
            writer.abandon()
    return written


def read_shard(path: str | os.PathLike[str], *, tokenizer: Tokenizer | None = None, verify: bool = True) -> Shard:
    """Opens a shard. `tokenizer`: refuse another one's tokens; `verify`: read all of it and compare the checksum."""
    p = Path(path)
    size = p.stat().st_size
    with p.open("rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size or head[:8] != MAGIC:
        raise ValueError(f"{p} is not a token shard: it does not begin with {MAGIC.decode()}; make one with python -m lazy_attention.shards")
    _, version, raw_dtype, vocabulary_hash, count, checksum = HEADER.unpack(head)
    dtype = raw_dtype.rstrip(b"\0").decode(errors="replace")
    if version != VERSION or dtype not in DTYPES:
        raise ValueError(f"{p}: version {version} with tokens of {dtype!r}, expected version {VERSION} and one of {', '.join(DTYPES)}")
    item = np.dtype(dtype).newbyteorder("<")
    if size != HEADER.size + count * item.itemsize:
        raise ValueError(f"{p} has {size} bytes, expected {HEADER.size + count * item.itemsize} for {count} tokens of {dtype}; it is damaged, make it again")
    if tokenizer is not None and vocabulary_hash != tokenizer.vocabulary_hash:
        raise ValueError(f"{p} holds tokens of another vocabulary; use the tokenizer it was made with")
    tokens: Tokens = np.memmap(p, item, "r", HEADER.size, (count,)) if count else np.zeros(0, item)
    if verify:
        found = hashlib.sha256()
        for begin in range(0, count, 1 << 20):
            found.update(tokens[begin : begin + (1 << 20)].tobytes())
        if found.digest() != checksum:
            raise ValueError(f"{p}: its tokens do not have the checksum its header says; it is damaged, make it again")
    return Shard(p, dtype, vocabulary_hash, tokens)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m lazy_attention.shards", description="Token shards from a parquet file, a token a byte.")
    parser.add_argument("parquet")
    parser.add_argument("folder")
    parser.add_argument("--text-field", default="text", help="the column that holds the text (default: text)")
    parser.add_argument("--tokens", type=int, default=100_000_000, help="tokens a shard (default: 100 million)")
    o = parser.parse_args(arguments)
    try:
        for path in write_shards(o.parquet, o.folder, text_field=o.text_field, tokens_per_shard=o.tokens):
            shard = read_shard(path)
            print(f"{path}: {len(shard.tokens)} tokens of {shard.dtype}")
    except (OSError, ValueError, ImportError) as error:
        print(f"shards: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
