"""The table of accounts: found, forgotten, bounded, restored."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest
from account_traffic import DAY, MONDAY, event, sketch

from overproof.errors import DataError
from overproof.guard.accounts import Accounts, AccountState


def seen(accounts: Accounts, name: str, ts: float) -> AccountState:
    one = event(ts, account=name)
    state = accounts.get(one)
    state.add(one, None)
    return state


def test_an_account_is_found_again_by_name_and_by_index() -> None:
    accounts = Accounts()
    first = seen(accounts, "a", MONDAY)
    assert seen(accounts, "a", MONDAY + 5) is first
    assert seen(accounts, "b", MONDAY + 5).index == 1
    assert accounts.at(0) is accounts.find("a") is first
    assert accounts.at(7) is accounts.at(-1) is accounts.find("c") is None
    assert len(accounts) == 2
    assert "a" in accounts


def test_idle_accounts_are_forgotten_and_counted() -> None:
    gone: list[str] = []
    accounts = Accounts(forget_days=10, on_forget=lambda state: gone.append(state.account))
    seen(accounts, "idle", MONDAY)
    seen(accounts, "back", MONDAY + DAY)
    seen(accounts, "back", MONDAY + 9 * DAY)
    seen(accounts, "new", MONDAY + 10.5 * DAY)
    assert gone == ["idle"]
    assert accounts.at(0) is None
    assert accounts.forgotten_idle == 1
    returned = seen(accounts, "idle", MONDAY + 11 * DAY)
    assert (returned.index, returned.requests) == (3, 1)


def test_who_returns_between_two_sweeps_begins_anew_all_the_same() -> None:
    accounts = Accounts(forget_days=10)
    seen(accounts, "a", MONDAY + 600)
    seen(accounts, "b", MONDAY + 10 * DAY)  # sweeps: a is idle for less than ten days
    state = seen(accounts, "a", MONDAY + 10 * DAY + 700)
    assert (state.requests, state.index, accounts.forgotten_idle) == (1, 2, 1)


def test_beyond_the_most_the_longest_idle_goes_first() -> None:
    accounts = Accounts(most_accounts=3)
    for number, name in enumerate("abcad"):
        seen(accounts, name, MONDAY + number)
    assert [state.account for state in accounts] == ["c", "a", "d"]
    assert accounts.forgotten_full == 1
    for number in range(5000):
        seen(accounts, f"n{number}", MONDAY + number)
    assert len(accounts) == 3
    assert accounts.forgotten_full == 4998 + 3
    assert len(accounts._pages) <= 2


def test_changes_of_owner_are_counted_over_all_accounts_forgotten_ones_too() -> None:
    accounts = Accounts(most_accounts=1)
    for org in ("o1", "o2"):
        one = event(MONDAY, org=org)
        accounts.get(one).add(one, None)
    seen(accounts, "b", MONDAY)
    assert accounts.changed == 1


def test_a_restored_table_goes_on_as_if_nothing_had_happened() -> None:
    whole, half = Accounts(forget_days=2, most_accounts=20), Accounts(forget_days=2)
    stream = [
        event(MONDAY + n * 3000, account=f"a{n * n % 37}", model=f"m{n % 3}") for n in range(400)
    ]
    for number, one in enumerate(stream):
        whole.get(one).add(one, sketch(number % 50))
        if number == 200:
            half = Accounts(forget_days=2, most_accounts=20)
            half.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(whole.state())))
        elif number > 200:
            half.get(one).add(one, sketch(number % 50))
    assert repr(half.state()) == repr(whole.state())
    assert [state.index for state in half] == [state.index for state in whole]
    assert all(half.at(state.index) is state for state in half)


def test_a_snapshot_that_does_not_fit_is_refused_and_nothing_is_lost() -> None:
    accounts = Accounts()
    seen(accounts, "a", MONDAY)
    state = accounts.state()
    with pytest.raises(DataError, match="another version"):
        accounts.restore({**state, "fields": ["index"]})
    with pytest.raises(DataError, match="damaged"):
        accounts.restore({**state, "accounts": [[1, 2]]})
    with pytest.raises(DataError, match="damaged"):
        accounts.restore({**state, "forgotten": None})
    assert accounts.find("a") is not None


@pytest.mark.slow
def test_accounts_of_mixed_size_take_less_than_three_kilobytes_each() -> None:
    number = 3000
    accounts = Accounts()
    texts = [sketch(n, system=1 + n % 3) for n in range(997)]
    tracemalloc.start()
    try:
        for at in range(number):
            name = f"account-{at:08d}"
            for turn in range(1 if at % 2 else 4 if at % 10 else 60):
                one = event(
                    MONDAY + turn * 4000.0, account=name, model=f"m{turn % 2}", org=f"o{at % 999}",
                    ip=f"10.0.{at % 256}.{turn % 3}", params={"temperature": turn % 3 / 2},
                    input_tokens=1000, output_tokens=300, account_created=MONDAY - at,
                )  # fmt: skip
                accounts.get(one).add(one, texts[(at * 7 + turn) % 997])
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(accounts) == number
    assert taken / number < 3000
