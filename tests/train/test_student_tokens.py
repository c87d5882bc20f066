"""The bytes of a student's tokens, by the kind of its tokenizer."""

from __future__ import annotations

import pytest

from overproof.errors import StudentError
from overproof.train.lm.student_tokens import TokenBytes


def test_a_tokenizer_that_loses_bytes_is_refused() -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([AddedToken("[SEP]", special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(StudentError, match="does not keep the bytes"):
        TokenBytes(tokenizer)


def test_pieces_with_a_space_before_every_text() -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import Unigram
    from transformers import PreTrainedTokenizerFast

    bytes_ = [(f"<0x{i:02X}>", -20.0) for i in range(256)]
    pieces = [("▁hi", -1.0), ("hi", -3.0), ("▁", -4.0), ("h", -5.0), ("i", -5.0), ("▁you", -1.0)]
    backend = Tokenizer(Unigram([("<unk>", 0.0), *pieces, *bytes_], 0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens([AddedToken("</s>", special=True)])
    tokens = TokenBytes(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>"))
    spelled = {data: tokens.first(data) for data in (b"hi you", b" hi", b"you", b"\xf0\x9f", b" ")}
    assert {d: tokens.bytes_of(t or 0) for d, t in spelled.items()} == {
        b"hi you": b"hi", b" hi": b" hi", b"you": b"y", b"\xf0\x9f": b"\xf0", b" ": b" ",
    }  # fmt: skip
    assert tokens.first(b"") is None
    assert tokens.share_beginning(b" ") == 2 / tokens_with_bytes(tokens)


def tokens_with_bytes(tokens: TokenBytes) -> int:
    return sum(bool(tokens.bytes_of(i)) for i in range(tokens.size))
