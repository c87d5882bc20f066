"""Checking a ledger: every chain in it, every row, and the records that join the chains.

The own chain is chain 0. Every other chain was copied from another ledger by a merge, with its
links and hashes untouched, and the own chain's latest ``join`` record that names it must name its
root, its last hash and its length. A chain that no record joins is a finding, and so is a row of a
joined chain that was changed, left out, moved or added since.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import Any, NamedTuple

from overproof.records.exchange import Outcome
from overproof.records.ledger_chain import (
    COLUMNS,
    GENESIS,
    Columns,
    Kind,
    LedgerReport,
    chain_hash,
    columns_of,
    key_bytes,
    tagged,
)
from overproof.records.ledger_file import has_chains

__all__ = ["verify_ledger"]

MOST_PROBLEMS = 100
HASH = 32
MOST_MISSING = 1 << 20  # rows of a gap that are made room for: a damaged number may be anything


class _Row(NamedTuple):
    seq: Any
    chain: Any
    link: Any
    kind: Any
    body: Any
    body_hash: Any
    prev_hash: Any
    hash: Any


class _Stone(NamedTuple):
    """A tombstone: which row it stands for and where it was read."""

    seq: int
    chain: int
    link: int
    root: bytes | None
    target: int


class _Join(NamedTuple):
    """What a join record says of one chain."""

    seq: int
    own: bool
    root: bytes
    head: bytes
    rows: int
    first: int | None


class _Chain:
    """What was read of one chain: 32 bytes a row, and which rows have no body."""

    def __init__(self) -> None:
        self.hashes = bytearray()
        self.previous = GENESIS
        self.last = 0  # link of the row read last
        self.bodiless: dict[int, int] = {}  # link → seq
        self.seqs: list[tuple[int, int]] = []  # (link, seq) where rows stop being neighbours

    def __len__(self) -> int:
        return len(self.hashes) // HASH

    def add(self, link: int, own: bytes) -> None:
        self.previous, self.last = own, link
        missing = link - 1 - len(self)
        if missing <= MOST_MISSING:
            self.hashes += bytes(HASH) * missing
            self.hashes[(link - 1) * HASH : link * HASH] = own

    def hash_at(self, link: int) -> bytes | None:
        found = bytes(self.hashes[(link - 1) * HASH : link * HASH])
        return found if link >= 1 and len(found) == HASH else None

    def seq_of(self, link: int) -> int:
        before = (pair for pair in reversed(self.seqs) if pair[0] <= link)
        start, seq = next(before, self.seqs[0])
        return seq + link - start


class _Check:
    """One pass over the rows; damage is reported where it is and does not spread."""

    def __init__(self, head: str | None) -> None:
        self.rows = 0
        self.last_seq = 0
        self.last_chain = 0
        self.chains: dict[int, _Chain] = {}
        self.stones: list[_Stone] = []
        self.joins: list[_Join] = []
        self.problems: list[str] = []
        self.head = None if head is None else head.removeprefix("sha256:").lower()
        self.head_found = False
        self.erased = 0

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def row(self, values: tuple[Any, ...]) -> None:
        row = _Row(*values[:8])
        self.rows += 1
        if not isinstance(row.seq, int) or row.seq < 1:
            self.problem(f"row {row.seq}: its number is none")
            return
        if row.seq != self.last_seq + 1:
            self.problem(
                f"row {row.seq}: follows row {self.last_seq}; rows between them are missing"
            )
        self.last_seq = row.seq
        if not isinstance(row.chain, int) or not isinstance(row.link, int) or row.link < 1:
            self.problem(f"row {row.seq}: its chain or its place in it is not of its type")
            return
        chain = self._chain_of(row)
        hashes = (row.body_hash, row.prev_hash, row.hash)
        sound = isinstance(row.kind, str) and all(
            isinstance(value, bytes) and len(value) == HASH for value in hashes
        )
        if not sound:
            self.problem(f"row {row.seq}: its kind or hashes are not of their type")
            own = row.hash if isinstance(row.hash, bytes) and len(row.hash) == HASH else GENESIS
            chain.add(row.link, own)
            return
        if row.prev_hash != chain.previous:
            self.problem(f"row {row.seq}: prev_hash is not the hash of the row before")
        if chain_hash(row.prev_hash, row.link, row.kind, row.body_hash) != row.hash:
            self.problem(
                f"row {row.seq}: hash does not follow from prev_hash, link, kind and body_hash"
            )
        chain.add(row.link, row.hash)
        self.head_found = self.head_found or row.hash.hex() == self.head
        self._body(row, chain, Columns(*values[8:]))

    def _chain_of(self, row: _Row) -> _Chain:
        """The chain of a row, with gaps in it reported."""
        known = row.chain in self.chains
        chain = self.chains.setdefault(row.chain, _Chain())
        if not known and row.chain != 0 and row.chain != len(self.chains) - 1:
            self.problem(f"row {row.seq}: begins chain {row.chain} out of turn")
        if row.link != chain.last + 1:
            self.problem(
                f"row {row.seq}: is number {row.link} of its chain and follows number {chain.last}"
            )
        if not known or row.chain != self.last_chain or row.link != chain.last + 1:
            chain.seqs.append((row.link, row.seq))
        self.last_chain = row.chain
        return chain

    def _body(self, row: _Row, chain: _Chain, columns: Columns) -> None:
        seq, body = row.seq, row.body
        if body is None:
            chain.bodiless[row.link] = seq
            if columns != Columns():
                self.problem(f"row {seq}: has no body but index columns")
            return
        data = body.encode("utf-8", "surrogateescape") if isinstance(body, str) else b""
        if hashlib.sha256(data).digest() != row.body_hash:
            self.problem(f"row {seq}: body is not what body_hash was taken of")
            return
        try:
            content = json.loads(data)
            expected = columns_of(row.kind, content)
            self._content(row, content)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            self.problem(f"row {seq}: body is not that of a row of kind {row.kind!r}: {error!r}")
            return
        for name, have, want in zip(COLUMNS, columns, expected, strict=True):
            if have != want or type(have) is not type(want):
                self.problem(f"row {seq}: column {name} differs from the body")

    def _content(self, row: _Row, content: dict[str, Any]) -> None:
        if (row.kind == Kind.ROOT) != (row.link == 1):
            self.problem(f"row {row.seq}: the root is the first row of a chain and no other")
        if row.kind == Kind.EXCHANGE:
            Outcome(content["exchange"]["completion"]["outcome"])
        elif row.kind == Kind.TOMBSTONE:
            stone = content["tombstone"]
            root = key_bytes(stone["chain"]) if "chain" in stone else None
            self.stones.append(_Stone(row.seq, row.chain, row.link, root, int(stone["seq"])))
        elif row.kind == Kind.JOIN:
            for said in content["join"]["chains"]:
                root, head = key_bytes(said["root"]), key_bytes(said["head"])
                own = row.chain == 0
                first = int(said["first"]) if own else None
                self.joins.append(_Join(row.seq, own, root, head, int(said["rows"]), first))
        else:
            content[Kind(row.kind).value]  # a body that lacks its own noun is not of this kind

    # At the end

    def finish(self) -> None:
        if not self.chains.get(0):
            self.problem("row 1: the root is missing")
        self._check_joins()
        self._check_stones()
        if self.head is not None and not self.head_found:
            self.problem(
                f"head {self.head}: is not in the chain, so rows were cut off or rewritten"
            )

    def _roots(self) -> dict[bytes, int]:
        roots: dict[bytes, int] = {}
        for number, chain in self.chains.items():
            root = chain.hash_at(1)
            if root is None:
                continue
            if root in roots:
                self.problem(f"row {chain.seqs[0][1]}: this chain is here twice")
            roots.setdefault(root, number)
        return roots

    def _check_joins(self) -> None:
        roots = self._roots()
        joined: dict[int, _Join] = {}
        for join in self.joins:
            number = roots.get(join.root)
            if number is None:
                self.problem(f"row {join.seq}: joins chain {tagged(join.root)}, which is missing")
                continue
            if self.chains[number].hash_at(join.rows) != join.head:
                self.problem(
                    f"row {join.seq}: joins chain {tagged(join.root)} of {join.rows} rows, whose "
                    "last hash is another one"
                )
            if join.own:
                self._check_place(join, number, joined.get(number))
                joined[number] = join
        for number, chain in self.chains.items():
            if number == 0:
                continue
            last = joined.get(number)
            rows = last.rows if last else 0
            if rows < len(chain):
                self.problem(
                    f"row {chain.seq_of(rows + 1)}: it and what follows it in its chain were "
                    "joined by no record"
                )

    def _check_place(self, join: _Join, number: int, before: _Join | None) -> None:
        """Rows that a merge brought lie together, where the record says."""
        chain, brought = self.chains[number], (before.rows if before else 0) + 1
        if number == 0 or join.first is None or not brought <= join.rows <= len(chain):
            return  # nothing was brought, or what is missing was reported
        places = {chain.seq_of(link) - link for link in (brought, join.rows)}
        if places != {join.first - brought} or chain.seq_of(join.rows) >= join.seq:
            self.problem(f"row {join.seq}: the rows that it joins are not where it says")

    def _check_stones(self) -> None:
        roots = {chain.hash_at(1): number for number, chain in self.chains.items()}
        erased: set[tuple[int, int]] = set()
        for stone in self.stones:
            number = stone.chain if stone.root is None else roots.get(stone.root)
            chain = None if number is None else self.chains[number]
            before = stone.target < stone.link or number != stone.chain
            if chain is None or number is None or not 1 <= stone.target <= len(chain) or not before:
                self.problem(
                    f"row {stone.seq}: tombstone names row {stone.target} of its chain, which is "
                    "not before it"
                )
            elif stone.target not in chain.bodiless:
                seq = chain.seq_of(stone.target)
                self.problem(f"row {seq}: is erased by row {stone.seq} but its body is still there")
            else:
                erased.add((number, stone.target))
        for number, chain in self.chains.items():
            for link, seq in sorted(chain.bodiless.items()):
                if (number, link) not in erased:
                    self.problem(f"row {seq}: body is missing and no tombstone names it")
        self.erased = len(erased)


def verify_ledger(connection: sqlite3.Connection, head: str | None = None) -> LedgerReport:
    """Check every row of every chain.

    Args:
        connection: open for reading; text comes back with ``surrogateescape``. Where no
            transaction is open on it, all is read in one.
        head: a hash noted earlier; it must still be in a chain.
    """
    check = _Check(head)
    place = "chain, coalesce(link, seq)" if has_chains(connection) else "0, seq"
    names = ", ".join(("kind", "body", "body_hash", "prev_hash", "hash", *COLUMNS))
    begun = connection.in_transaction
    if not begun:
        connection.execute("BEGIN")
    try:
        # NOT INDEXED: the table itself is read, never a copy of its values in an index.
        query = f"SELECT seq, {place}, {names} FROM record NOT INDEXED ORDER BY seq"  # noqa: S608
        for row in connection.execute(query):
            check.row(row)
        check.finish()
        for (line,) in connection.execute("PRAGMA integrity_check"):
            if line != "ok":
                check.problem(f"SQLite: {line}")
    finally:
        if not begun:
            connection.rollback()
    problems = check.problems[:MOST_PROBLEMS]
    if len(check.problems) > MOST_PROBLEMS:
        problems.append(f"and {len(check.problems) - MOST_PROBLEMS} more")
    own = check.chains.get(0)
    return LedgerReport(
        ok=not problems,
        rows=check.rows,
        head=tagged(own.previous if own else GENESIS),
        erased=check.erased,
        problems=tuple(problems),
        chains=len(check.chains),
    )
