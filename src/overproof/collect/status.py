"""What a teacher says of itself while no answer comes: where its batches stand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from overproof.clients.protocol import Teacher
from overproof.collect.asker import Progress

__all__ = ["telling"]

EVERY_S = 5.0


@asynccontextmanager
async def telling(
    teacher: Teacher,
    progress: Progress,
    changed: Callable[[Progress], None] | None,
    every_s: float = EVERY_S,
) -> AsyncIterator[None]:
    """Tell ``changed`` now and then what the teacher says, where it says anything."""
    lines: Callable[[], list[str]] | None = getattr(teacher, "status_lines", None)
    if lines is None or changed is None:
        yield
        return

    async def tell() -> None:
        while True:
            await asyncio.sleep(every_s)
            progress.status = tuple(lines())
            changed(progress)

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        progress.status = ()
