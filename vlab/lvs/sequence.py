"""A story as a Mermaid sequence diagram, as GitHub, GitLab and mermaid.live draw it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlab.lvs.story import Change, Row, Story

STRANGER = "nobody"


def mermaid(story: Story) -> str:
    return "\n".join(_lines(story))


def _lines(story: Story) -> Iterator[str]:
    yield "sequenceDiagram"
    yield from (f"    participant {name}" for name in _participants(story))
    for number, row in enumerate(story.rows):
        yield from _notes(row.sender, row.changes)
        yield f"    {row.sender}{'->>' if row.arrived else '--x'}{row.receiver or STRANGER}: {_packet(row)}"
        following = story.rows[number + 1].packet if number + 1 < len(story.rows) else ""
        if following == "reply":
            yield from (note for change in story.unwrapped for note in _notes(change.by, [change]))
    if story.fault:
        yield f"    Note over {story.rows[-1].sender if story.rows else story.client}: fault: {_text(story.fault)}"


def _participants(story: Story) -> list[str]:
    """In the order of their appearance, so that the request runs from left to right."""
    names = [story.client, *(name for row in story.rows for name in (row.sender, row.receiver or STRANGER))]
    return list(dict.fromkeys(names))


def _notes(by: str, changes: Sequence[Change]) -> Iterator[str]:
    if changes:
        yield f"    Note over {by}: {'<br/>'.join(_text(str(change)) for change in changes)}"


def _packet(row: Row) -> str:
    around = "".join(f"[{outer}] " for outer in row.outer)
    return _text(f"{row.packet}: {around}{row.source} → {row.destination}")


def _text(text: str) -> str:
    """Without the two characters that end a message or begin an entity in Mermaid."""
    return text.replace("#", "").replace(";", ",")
