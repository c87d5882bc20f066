"""The typed Python API. Everything the command line does is a function here.

    from overproof import api

    loaded = api.load("recipe.toml")
    print(api.plan(loaded))
    certificate = api.distill(loaded)

Functions of text tasks end in ``_text``. Heavy rooms are imported inside the functions, so that
importing this module stays cheap.
"""

from __future__ import annotations

from overproof.api.guard import (
    guard_calibrate,
    guard_fingerprint,
    guard_replay,
    guard_score,
    open_guard,
    sign_exemption,
    simulate_traffic,
)
from overproof.api.guard_appeals import guard_appeal
from overproof.api.guard_page import guard_report
from overproof.api.label import (
    certify,
    check_bases,
    collect,
    collect_shard,
    distill,
    plan,
    train,
)
from overproof.api.recipes import init, load, load_any
from overproof.api.text import (
    certify_text,
    check_students,
    collect_text,
    distill_text,
    export,
    plan_text,
    train_text,
)

__all__ = [
    "certify",
    "certify_text",
    "check_bases",
    "check_students",
    "collect",
    "collect_shard",
    "collect_text",
    "distill",
    "distill_text",
    "export",
    "guard_appeal",
    "guard_calibrate",
    "guard_fingerprint",
    "guard_replay",
    "guard_report",
    "guard_score",
    "init",
    "load",
    "load_any",
    "open_guard",
    "plan",
    "plan_text",
    "sign_exemption",
    "simulate_traffic",
    "train",
    "train_text",
]
