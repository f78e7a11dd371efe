"""Page of a search: its queries and hits as pictures, players and words, in one file of HTML."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metatx.errors import SampleError
from metatx.files import written_whole
from metatx.progress import tell
from metatx.retrieval.item_columns import cell_text
from metatx.retrieval.previews import preview
from metatx.retrieval.queries import Hit
from metatx.retrieval.snapshot import Snapshot
from metatx.writing.media import jpeg_uri, page, wav_uri

__all__ = ["Shown", "hits_page", "shown_hits", "write_hits"]

SIDE = 256  # longest side of a picture in pixels
SECONDS = 15.0  # of a clip that can be heard
MOST_MEDIA = 32_000_000  # characters of pictures and sound in a page
MOST_HITS = 5_000
LONGEST = 1000  # characters of a sample's words


@dataclass(frozen=True)
class Shown:
    """A query or a hit as a page shows it.

    Attributes:
        modality: Name of the modality; None for a query that is a vector.
        sample: Raw sample; None where it is not kept.
        score: Likeness of a hit to its query.
        columns: The item's own columns.
        kind: Name of the tokenizer that shows the sample; by default that of the modality.
    """

    modality: str | None
    sample: Any = None
    score: float | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    kind: str | None = ""


def shown_hits(snapshot: Snapshot, hits: Sequence[Hit]) -> list[Shown]:
    """Hits with their items' columns, and the samples that the index keeps."""
    rows = snapshot.rows([hit.item for hit in hits])
    sources = snapshot.manifest.sources
    kinds = snapshot.kinds
    return [
        Shown(hit.modality, row.get(sources.get(hit.modality, "")), hit.score, row, kinds.get(hit.modality))
        for hit, row in zip(hits, rows, strict=True)
    ]


def write_hits(
    out: str | Path, queries: Sequence[Shown], hits: Sequence[Sequence[Shown]], *, title: str = "Search"
) -> None:
    """Write ``hits_page`` to a file, whole or not at all. Raises OSError if it cannot be written."""
    text = hits_page(queries, hits, title=title)
    with written_whole(Path(out)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def hits_page(queries: Sequence[Shown], hits: Sequence[Sequence[Shown]], *, title: str = "Search") -> str:
    """Page of each query with its hits, the best first; it needs no network and runs no code.

    Pictures and sound are left out from where they would be more than 32 MB, hits from the 5,000th on; the page and the
    log say so.

    Args:
        queries: Queries.
        hits: Hits of each query.
        title: Title of the page.
    """
    media = _Media()
    naming = _naming(hits)
    sections = []
    room = MOST_HITS
    for number, (query, found) in enumerate(zip(queries, hits, strict=True), 1):
        cards = "".join(_card(media, rank, hit, naming) for rank, hit in enumerate(found[:room], 1))
        room -= min(room, len(found))
        count = f"{len(found)} hit{'' if len(found) == 1 else 's'}"
        asked = _body(media, query, "h2") or _named(query, number)
        head = f'<div class="query">{asked}<span class="soft">{count}</span></div>'
        sections.append(f'<section id="q{number}">{head}<ol>{cards}</ol></section>')
    total = sum(map(len, hits))
    notes = media.notes()
    if total > MOST_HITS:
        notes.append(f"{MOST_HITS:,} of {total:,} hits are shown.")
    for note in notes:
        tell(note)
    told = "".join(f'<p class="soft">{html.escape(note)}</p>' for note in notes)
    parts = {
        "title": html.escape(title),
        "notes": told + (_contents(queries) if len(queries) > 1 else ""),
        "body": "\n".join(sections),
    }
    return page(Path(__file__).parent / "hits.html", parts)


class _Media:
    """Pictures and sound of a page, as long as there is room, and what was left out."""

    def __init__(self) -> None:
        self.room = MOST_MEDIA
        self.left = 0
        self.bad: list[str] = []

    def element(self, shown: Image.Image | tuple[np.ndarray, int]) -> str:
        """HTML of a picture or of sound (L,) with its rate; empty where there is no room."""
        if self.room > 0:
            if isinstance(shown, Image.Image):
                text = f'<img alt="" src="{jpeg_uri(shown, SIDE)}">'
            else:
                text = f'<audio controls preload="none" src="{wav_uri(*shown, SECONDS)}"></audio>'
            if len(text) <= self.room:
                self.room -= len(text)
                return text
            self.room = 0
        self.left += 1
        return '<p class="soft">left out, to keep the page small</p>'

    def notes(self) -> list[str]:
        notes = []
        if self.left:
            notes.append(f"Pictures and clips that were left out, to keep the page small: {self.left:,}.")
        if self.bad:
            notes.append(f"Samples that cannot be read: {len(self.bad):,}; the first: {self.bad[0]}.")
        return notes


def _body(media: _Media, shown: Shown, tag: str) -> str:
    """Picture, player or words of a sample; empty if it has none."""
    try:
        sample = preview(shown.modality if shown.kind == "" else shown.kind, shown.sample)
    except SampleError as error:
        media.bad.append(str(error))
        return '<p class="soft">cannot be read</p>'
    if isinstance(sample, str):
        return f"<{tag}>{html.escape(sample[:LONGEST])}</{tag}>"
    return "" if sample is None else media.element(sample)


def _naming(hits: Sequence[Sequence[Shown]]) -> str | None:
    """Column that tells the hits apart best: that of the most different texts; None without texts."""
    texts: dict[str, set[str]] = {}
    for hit in chain.from_iterable(hits):
        for name, cell in hit.columns.items():
            if isinstance(cell, str) and cell.strip():
                texts.setdefault(name, set()).add(cell)
    return max(texts, key=lambda name: len(texts[name]), default=None)


def _card(media: _Media, rank: int, hit: Shown, naming: str | None) -> str:
    body = _body(media, hit, "b")
    cells = {name: text for name, cell in hit.columns.items() if (text := cell_text(cell))}
    if naming in cells and not body.startswith("<b>"):
        body += f"<b>{html.escape(cells.pop(naming))}</b>"
    facts = [f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in cells.items()]
    score = "" if hit.score is None else f"<span>{hit.score:.3f}</span>"
    head = f'<p class="soft"><span>{rank} · {html.escape(hit.modality or "")}</span>{score}</p>'
    return f"<li>{head}{body}<dl>{''.join(facts)}</dl></li>"


def _named(query: Shown, number: int) -> str:
    return f"<h2>Query {number}{f', {html.escape(query.modality)}' if query.modality else ''}</h2>"


def _contents(queries: Sequence[Shown]) -> str:
    links = []
    for number, query in enumerate(queries, 1):
        name = query.sample if isinstance(query.sample, str) else f"query {number}"
        links.append(f'<a href="#q{number}">{html.escape(name[:60])}</a>')
    return f"<nav>{''.join(links)}</nav>"
