"""Writing a certificate's three faces into its run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from overproof.records.certificate import Certificate
from overproof.records.files import write_atomically
from overproof.report.html import render_html
from overproof.report.markdown import render_model_card

__all__ = ["Paths", "write_reports"]


class Paths(NamedTuple):
    """Where the reports of a run lie."""

    certificate: Path
    model_card: Path
    html: Path


def write_reports(certificate: Certificate, run_dir: Path) -> Paths:
    """Write ``certificate.json``, ``model-card.md`` and ``report.html``, each atomically.

    All three are rendered before the first is written, so that a run never holds a new
    certificate beside an old report because rendering failed.

    Raises:
        OSError: the directory cannot be written to.
    """
    paths = Paths(run_dir / "certificate.json", run_dir / "model-card.md", run_dir / "report.html")
    record = json.dumps(certificate.model_dump(mode="json"), indent=2, ensure_ascii=False)
    card, page = render_model_card(certificate), render_html(certificate)
    for path, text in zip(paths, (record + "\n", card, page), strict=True):
        write_atomically(path, text)
    return paths
