"""What a page says to a reader, without its markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

__all__ = ["PageText"]


class PageText(HTMLParser):
    """The text of a page; ``str`` gives it with single blanks."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    def __str__(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.said))
