"""Teacher logs of every format, whole and broken."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from overproof.errors import DataError
from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from overproof.records.imports import ImportReport, import_logs
from overproof.records.ledger import Ledger

REQUEST = {
    "model": "big-model",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ],
    "max_completion_tokens": 5,
    "temperature": 0,
    "logprobs": True,
    "top_logprobs": 2,
    "stop": "\n",
    "logit_bias": {"50": -100},
    "user": "somebody",
    "stream": False,
}


def response(text: str | None = "positive", identity: str = "r1", **changes: Any) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "finish_reason": "stop",
        "logprobs": None,
    }
    return {
        "id": identity,
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "big-model-0613",
        "system_fingerprint": "fp",
        "choices": [choice | changes],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 2,
            "total_tokens": 13,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": None,
        },
    }


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger.open(tmp_path / "run" / "ledger.sqlite", write=True) as ledger:
        yield ledger


def jsonl(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def load(path: Path, ledger: Ledger, **options: Any) -> ImportReport:
    return import_logs(path, ledger, teacher="big", **options)


def test_request_response_pairs(tmp_path: Path, ledger: Ledger) -> None:
    logprobs = {
        "content": [
            {
                "token": "pos",
                "logprob": -0.25,
                "bytes": [112, 111, 115],
                "top_logprobs": [{"token": "neg", "logprob": -3.5, "bytes": None}],
            }
        ]
    }
    path = jsonl(
        tmp_path / "logs.jsonl", {"request": REQUEST, "response": response(logprobs=logprobs)}
    )
    report = load(path, ledger, licence="open", terms="allowed")
    assert (report.rows, report.imported, report.duplicates, report.malformed) == (1, 1, 0, ())
    [got] = ledger.exchanges()
    assert got == Exchange(
        request=Request(
            model="big-model",
            messages=(
                Message(role="system", content="Be brief."),
                Message(role="user", content="a\nb"),
            ),
            parameters=Parameters(
                max_tokens=5,
                temperature=0,
                top_logprobs=2,
                stop=("\n",),
                extra={"logit_bias": {"50": -100}},
            ),
        ),
        completion=Completion(
            outcome=Outcome.ANSWERED,
            text="positive",
            finish_reason="stop",
            logprobs=(
                TokenLogprob(
                    token="pos",
                    logprob=-0.25,
                    data=(112, 111, 115),
                    top=(TopLogprob(token="neg", logprob=-3.5),),
                ),
            ),
            usage=Usage(input_tokens=11, output_tokens=2, cached_tokens=4),
            model="big-model-0613",
            system_fingerprint="fp",
        ),
        teacher="big",
        created_at="2023-11-14T22:13:20+00:00",
        source="imported:logs.jsonl",
        licence="open",
        terms="allowed",
    )
    [note] = ledger.notes("import")
    assert note["file"] == "logs.jsonl"
    assert note["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (note["rows"], note["imported"], note["malformed"]) == (1, 1, 0)
    assert (note["teacher"], note["licence"], note["terms"]) == ("big", "open", "allowed")


def test_outcomes(tmp_path: Path, ledger: Ledger) -> None:
    refusal = {"role": "assistant", "content": None, "refusal": "I cannot."}
    tools = {"role": "assistant", "content": None, "tool_calls": [{}]}
    answers = [
        response("cut", "1", finish_reason="length"),
        response("", "2", finish_reason="content_filter"),
        response(None, "3", message=refusal),
        response(None, "4", message=tools, finish_reason="tool_calls"),
        response("fine", "5"),
    ]
    rows = [{"request": REQUEST | {"seed": n}, "response": a} for n, a in enumerate(answers)]
    rows.append({"request": REQUEST | {"seed": 9}, "response": None, "error": {"message": "500"}})
    report = load(jsonl(tmp_path / "l.jsonl", *rows), ledger)
    assert report.imported == 6
    got = [(e.completion.outcome, e.completion.text) for e in ledger.exchanges()]
    assert got == [
        ("truncated", "cut"),
        ("filtered", ""),
        ("refused", "I cannot."),
        ("malformed", ""),
        ("answered", "fine"),
        ("failed", ""),
    ]
    assert list(ledger.exchanges())[-1].completion.error == "500"
    again = load(tmp_path / "l.jsonl", ledger)
    assert (again.imported, again.duplicates) == (0, 6)


def test_batch_lines_are_paired_by_their_custom_id(tmp_path: Path, ledger: Ledger) -> None:
    def asked(name: str) -> dict[str, Any]:
        body = REQUEST | {"seed": int(name)}
        return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}

    def answered(name: str, status: int = 200, **body: Any) -> dict[str, Any]:
        answer = {"status_code": status, "request_id": "x", "body": body or response(name, name)}
        return {"id": "b", "custom_id": name, "response": answer, "error": None}

    path = jsonl(
        tmp_path / "both.jsonl",
        asked("1"),
        asked("2"),
        answered("2"),
        answered("3", 429, error={"message": "slow down"}),
        answered("4"),
        answered("1"),
        asked("3"),
        asked("5"),
        asked("5"),
        {**asked("6"), **answered("6")},
    )
    report = load(path, ledger)
    assert report.imported == 4
    assert report.rows == 10
    assert [(e.request.parameters.seed, e.completion.text) for e in ledger.exchanges()] == [
        *((2, "2"), (1, "1"), (3, ""), (6, "6"))
    ]
    failed = list(ledger.exchanges())[2].completion
    assert (failed.outcome, failed.status, failed.error) == ("failed", 429, "slow down")
    assert report.malformed == (
        f"{path}:9: custom_id '5' was on {path}:8 already",
        f"{path}:8: no line has the response to custom_id '5'",
        f"{path}:5: no line has the request of custom_id '4'; put the batch's input and output "
        "lines into one file",
    )


def test_chats(tmp_path: Path, ledger: Ledger) -> None:
    chat = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "u2"},
        {"role": "assistant", "content": [{"type": "text", "text": "x"}, "y"]},
    ]
    rows = [{"messages": chat}, {"messages": chat[:3], "model": "named"}]
    report = load(jsonl(tmp_path / "c.jsonl", *rows), ledger, model="given")
    assert report.imported == 2
    one, two = ledger.exchanges()
    assert [m.content for m in one.request.messages] == ["s", "u", "first", "u2"]
    assert (one.completion.text, one.request.model) == ("x\ny", "given")
    assert (two.completion.text, two.request.model) == ("first", "named")


def test_labelled_tables(tmp_path: Path, ledger: Ledger) -> None:
    csv = tmp_path / "a.csv"
    csv.write_bytes(b'\xef\xbb\xbftext,label\r\n"two\r\nlines, ""quoted""",pos\r\nplain,neg\r\n')
    assert load(csv, ledger).imported == 2
    tsv = tmp_path / "b.tsv.gz"
    tsv.write_bytes(gzip.compress("q\ta\nÄ\tpos\n".encode("latin-1")))
    options = {"input_column": "q", "label_column": "a", "encoding": "latin-1", "model": "m"}
    assert load(tsv, ledger, **options).imported == 1
    got = [(e.request.messages[0].content, e.completion.text) for e in ledger.exchanges()]
    assert got == [('two\r\nlines, "quoted"', "pos"), ("plain", "neg"), ("Ä", "pos")]
    models = [(e.request.model, e.source) for e in ledger.exchanges()]
    assert models[0] == ("unknown", "imported:a.csv")
    assert models[2] == ("m", "imported:b.tsv.gz")


def test_importing_again_adds_nothing(tmp_path: Path, ledger: Ledger) -> None:
    csv = tmp_path / "a.csv"
    csv.write_text("text,label\na,pos\na,neg\na,pos\nb,pos\n")
    assert load(csv, ledger).imported == 4
    rows = ledger.verify().rows
    for _ in range(2):
        again = load(csv, ledger)
        assert (again.imported, again.duplicates) == (0, 4)
    assert ledger.verify().rows == rows
    samples = [(e.request.sample, e.completion.text) for e in ledger.exchanges()]
    assert samples == [(0, "pos"), (1, "neg"), (2, "pos"), (0, "pos")]
    # Another file: what is there is there, and another answer is a further sample.
    other = tmp_path / "other.csv"
    other.write_text("text,label\nb,pos\nb,neg\nc,pos\n")
    report = load(other, ledger)
    assert (report.imported, report.duplicates) == (2, 1)
    assert (load(other, ledger).imported, load(csv, ledger).imported) == (0, 0)


def test_answers_with_ids_are_told_apart_by_them(tmp_path: Path, ledger: Ledger) -> None:
    rows = [{"request": REQUEST, "response": response("pos", name)} for name in ("1", "2", "1")]
    both = response("pos", "3")
    both["choices"].append(both["choices"][0] | {"index": 1})
    path = jsonl(tmp_path / "l.jsonl", *rows, {"request": REQUEST | {"n": 2}, "response": both})
    report = load(path, ledger)
    assert (report.rows, report.imported, report.duplicates) == (4, 4, 1)
    assert [e.request.sample for e in ledger.exchanges()] == [0, 1, 2, 3]
    again = load(path, ledger)
    assert (again.imported, again.duplicates) == (0, 5)


BROKEN = {
    '{"request": {"messages": [}': "1:27: is not JSON: Expecting value",
    "[1]": "1:1: is not a JSON object; one object a line is expected, not an array",
    '{"a": NaN}': "1: is not usable JSON: NaN is not JSON",
    '{"messages": "x"}': "1: `messages` is not a list of a question and an answer",
    '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}': (
        "1: its last message is not the assistant's"
    ),
    '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}, '
    '{"role": "assistant", "content": "b"}]}': (
        "1: message 1: its content has a part of type 'image_url'; only text can be used"
    ),
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]}': (
        "1: the assistant's answer has no text"
    ),
    '{"request": 3, "response": {}}': "1: 'request' is not an object",
    '{"request": {"messages": []}, "response": {}}': (
        "1: `messages` is not a list with at least one message"
    ),
    '{"request": {"messages": [{"role": "robot", "content": "a"}]}, "response": {}}': (
        "1: message 1 has the unknown role 'robot'"
    ),
    '{"request": {"messages": [{"role": "user", "content": "a"}]}, "response": {}}': (
        "1: its response has no choices"
    ),
    '{"request": {"messages": [{"role": "user", "content": "a"}]}, "response": "x"}': (
        "1: 'response' is not an object"
    ),
    '{"request": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 0}, '
    '"response": {"choices": [{"message": {"content": "b"}}]}}': (
        "1: max_tokens: Input should be greater than or equal to 1"
    ),
    '{"x": 1}': (
        "1: has none of the fields 'request', 'custom_id' and 'messages', and not both of "
        "'label' and 'text'"
    ),
    '{"messages": [{"role": "user", "content": "\\ud83d"}, {"role": "assistant"}]}': (
        "1: holds half of a surrogate pair"
    ),
    '{"custom_id": 3, "body": {}}': "1: has neither 'request' nor 'custom_id'",
    '{"a": ' * 3000: "1: is not usable JSON",
}


@pytest.mark.parametrize("line", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_row_is_named_and_the_rest_imported(
    tmp_path: Path, ledger: Ledger, line: str
) -> None:
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    path = jsonl(tmp_path / "l.jsonl", line, "", good)
    report = load(path, ledger)
    assert (report.rows, report.imported, len(report.malformed)) == (2, 1, 1)
    if not line.startswith('{"a": {"a"'):
        assert report.malformed[0] == f"{path}:{BROKEN[line]}"
    with pytest.raises(DataError) as caught:
        load(path, ledger, strict=True)
    assert caught.value.culprit.startswith(f"{path}:1")


def test_bytes_that_are_no_text_are_named(tmp_path: Path, ledger: Ledger) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\ngood,pos\nb\xe4d,neg\nshort\n,pos\nfine,neg\n")
    report = load(path, ledger)
    assert report.imported == 2
    assert report.malformed == (
        f"{path}:3: byte 0xe4 in column 'text' is not utf-8",
        f"{path}:4: has 1 fields, its header 2",
        f"{path}:5: column 'text' is empty or not text",
    )
    lines = tmp_path / "l.jsonl"
    chat = b'{"messages":[{"role":"user","content":"%s"},{"role":"assistant","content":"a"}]}\n'
    lines.write_bytes(chat % b"ok" + chat % b"\xff")
    assert load(lines, ledger).malformed == (f"{lines}:2:40: byte 0xff is not utf-8",)


def test_strict_imports_nothing(tmp_path: Path, ledger: Ledger) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,pos\nb\n")
    with pytest.raises(DataError, match=r"a\.csv:3: has 1 fields"):
        load(path, ledger, strict=True)
    assert len(ledger) == 0
    assert list(ledger.notes()) == []


def test_files_that_cannot_be_imported(tmp_path: Path, ledger: Ledger) -> None:
    def refused(name: str, content: bytes, match: str, **options: Any) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=match):
            load(path, ledger, **options)

    refused("e.jsonl", b"", "(?s)nothing that can be imported: it has no rows.*expected: JSONL")
    refused("x.jsonl", b"x\n", r"nothing that can be imported: .*x\.jsonl:1:1: is not JSON")
    refused("a.csv", b"text,gold\na,b\n", "(?s)column 'label' not.*--label.*'text', 'gold'")
    refused("b.csv", b"text,text,label\na,b,c\n", "column 'text' twice")
    refused("c.csv", b"text,label\n", "no rows")
    refused("d.csv", b'text,label\n"a,b\n', "cannot be read: unexpected end of data")
    refused("a.csv.gz", b"text,label\na,b\n", "damaged or not gzipped")
    refused("b.csv.gz", gzip.compress(b"text,label\na,b\n" * 99)[:-9], "damaged or not gzipped")
    refused("e.csv", b"text,label\na,b\n", "unknown encoding: utf-9", encoding="utf-9")
    refused("u.csv", b"\xff\xfet", "is not utf-16", encoding="utf-16")
    refused("f.csv", b"text,label\na,b\n", "is CSV, not 'chat'", format="chat")
    refused("f.log", b"{}\n", "ending tells no format")
    refused("f.parquet", b"PAR1", "not a readable Parquet")
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "none.jsonl", ledger)
    with pytest.raises(DataError, match="is a directory"):
        load(tmp_path, ledger)
    assert len(ledger) == 0


def test_a_format_that_is_said_overrides_the_ending(tmp_path: Path, ledger: Ledger) -> None:
    path = tmp_path / "a.txt"
    path.write_text("text,label\na,pos\n")
    assert load(path, ledger, format="csv").imported == 1
    rows = tmp_path / "a.jsonl"
    jsonl(rows, {"text": "b", "label": "neg"}, {"messages": [], "text": "c", "label": "pos"})
    assert load(rows, ledger, format="csv").imported == 2
