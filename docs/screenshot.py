"""Pictures of a report: desktop, dark, phone (375 px) and print, with headless Chromium.

    python docs/screenshot.py REPORT.html OUTDIR [--chromium PATH] [--only desktop,phone]

Writes ``desktop.png``, ``dark.png``, ``phone.png``, ``phone-dark.png`` and ``print.pdf``, and says
of each picture whether the page needs to be scrolled sideways at that width.
"""

from __future__ import annotations

import argparse
import html
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VIEWS = {
    "desktop": (1280, False),
    "dark": (1280, True),
    "phone": (375, False),
    "phone-dark": (375, True),
}
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip
# Chromium refuses windows narrower than 500 px, so the page is shown in a frame of the true width.
WRAPPER = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<style>body {{ margin: 0 }} iframe {{ border: 0; display: block; width: {width}px }}</style>
<iframe srcdoc="{page}" onload="
  const root = this.contentDocument.documentElement;
  this.style.height = root.scrollHeight + 'px';
  document.body.dataset.size = root.scrollWidth + ' ' + root.scrollHeight;"></iframe>
"""


def chromium(binary: str, *arguments: str, dark: bool = False) -> str:
    """Run Chromium once with a profile of its own and return what it printed."""
    with tempfile.TemporaryDirectory() as profile:
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        done = subprocess.run(
            [binary, *QUIET, scheme, f"--user-data-dir={profile}", *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
    return done.stdout


def picture(binary: str, page: str, target: Path, width: int, dark: bool) -> None:
    """Photograph the whole page at ``width`` pixels."""
    with tempfile.TemporaryDirectory() as folder:
        wrapper = Path(folder) / "wrapper.html"
        wrapper.write_text(WRAPPER.format(width=width, page=html.escape(page)))
        window = max(width, 500)
        dom = chromium(binary, f"--window-size={window},1000", "--dump-dom", wrapper.as_uri())
        found = re.search(r'data-size="(\d+) (\d+)"', dom)
        if found is None:
            raise SystemExit(f"{target.name}: the page could not be measured")
        wide, high = int(found[1]), int(found[2])
        chromium(
            binary,
            f"--window-size={window},{high}",
            f"--screenshot={target}",
            wrapper.as_uri(),
            dark=dark,
        )
    fits = "fits" if wide <= width else f"NEEDS SIDEWAYS SCROLLING: {wide} px"
    print(f"{target}  {width} x {high} px, {fits}")


def main() -> None:
    """Parse the arguments and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--only", default=",".join([*VIEWS, "print"]))
    options = parser.parse_args()
    if shutil.which(options.chromium) is None:
        sys.exit(f"{options.chromium}: no such program\n  → name one with --chromium PATH")
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = options.only.split(",")
    page = options.report.read_text()
    for name, (width, dark) in VIEWS.items():
        if name in wanted:
            picture(options.chromium, page, (options.out / f"{name}.png").resolve(), width, dark)
    if "print" in wanted:
        target = (options.out / "print.pdf").resolve()
        uri = options.report.resolve().as_uri()
        chromium(options.chromium, f"--print-to-pdf={target}", "--no-pdf-header-footer", uri)
        print(target)


if __name__ == "__main__":
    main()
