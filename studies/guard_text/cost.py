"""Microseconds that `text_traits` costs, by length and kind of text; the least of many runs.

python studies/guard_text/cost.py
"""

from __future__ import annotations

import random
import timeit

from corpus import read_texts

from overproof.guard.text import text_traits

LENGTHS = (100, 300, 1000, 2000, 4000)
KINDS = (("ordinary", "en"), ("ordinary", "zh"), ("elicitation", "en"))


def main() -> None:
    """Print a line for each kind and length."""
    texts = read_texts()
    for head, language in KINDS:
        pool = [t.turn for t in texts if t.head == head and t.language == language]
        for length in LENGTHS:
            rng = random.Random(length)
            many = ["\n".join(rng.choices(pool, k=length // 10 + 1))[:length] for _ in range(40)]

            def once(many: list[str] = many) -> None:
                for text in many:
                    text_traits("", text)

            least = min(timeit.repeat(once, number=1, repeat=120)) / len(many) * 1e6
            print(f"{head:12} {language} {length:5} characters  {least:6.1f} µs")


if __name__ == "__main__":
    main()
