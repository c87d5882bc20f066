"""Writing the three faces of a text task's certificate into its run directory."""

from __future__ import annotations

import json
from pathlib import Path

from overproof.records.files import write_atomically
from overproof.records.text_certificate import TextCertificate
from overproof.report.text_html import render_text_html
from overproof.report.text_markdown import render_text_card
from overproof.report.write import Paths

__all__ = ["write_text_reports"]


def write_text_reports(certificate: TextCertificate, run_dir: Path) -> Paths:
    """Write ``certificate.json``, ``model-card.md`` and ``report.html``, each atomically.

    All three are rendered before the first is written.

    Raises:
        OSError: the directory cannot be written to.
    """
    paths = Paths(run_dir / "certificate.json", run_dir / "model-card.md", run_dir / "report.html")
    record = json.dumps(certificate.model_dump(mode="json"), indent=2, ensure_ascii=False)
    card, page = render_text_card(certificate), render_text_html(certificate)
    for path, text in zip(paths, (record + "\n", card, page), strict=True):
        write_atomically(path, text)
    return paths
