"""`make docs`: the Markdown pages as HTML below outputs/docs, and a check of every link between them.

The pages are written to be read where they lie, so a link names a file of the checkout; here a link to a page becomes
one to its HTML, and a link to anything else (code, settings) leads to the file itself. A link or an anchor that leads
nowhere is an error. markdown-it-py comes with rich, so that nothing needs to be installed for this.
"""

from __future__ import annotations

import html
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/*.md", "experiments/*.md", "experiments/*/*.md", "vvsbench/zoo/README.md")
FOREIGN = re.compile(r"[a-z]+:")
TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.55 system-ui, sans-serif; color: #1b1f24; }}
pre, table {{ display: block; overflow-x: auto; }} pre {{ background: #f4f5f7; padding: .8rem; line-height: 1.4; }}
code {{ font-size: .9em; }} table {{ border-collapse: collapse; }} th, td {{ padding: .3rem .7rem; text-align: left;
border-bottom: 1px solid #d8dce1; vertical-align: top; }} a {{ color: #0b5cad; }}
</style></head><body><p><a href="{index}">all pages</a></p>
{body}</body></html>
"""


def pages(root: Path = ROOT) -> list[Path]:
    """The Markdown pages of a checkout."""
    return sorted(page for pattern in PAGES for page in root.glob(pattern))


def parsed(page: Path) -> list[Token]:
    """A page's Markdown tokens, with the anchors of its headings in place."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    taken: dict[str, int] = {}
    for opening, heading in zip(tokens, tokens[1:], strict=False):
        if opening.type == "heading_open":
            slug = _slug("".join(child.content for child in heading.children or ()))
            taken[slug] = taken.get(slug, -1) + 1
            opening.attrSet("id", f"{slug}-{taken[slug]}" if taken[slug] else slug)
    return tokens


def _slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _targets(tokens: list[Token]) -> Iterator[tuple[Token, str]]:
    """Links and pictures that lead to this checkout: the token, and the attribute that says where."""
    for token in (child for block in tokens for child in block.children or ()):
        for kind, attribute in (("link_open", "href"), ("image", "src")):
            if token.type == kind and not FOREIGN.match(str(token.attrGet(attribute))):
                yield token, attribute


def _led(page: Path, link: str) -> tuple[Path, str]:
    """File and anchor that a link of a page names."""
    name, _, anchor = unquote(link).partition("#")
    return (page.parent / name).resolve() if name else page, anchor


def broken(root: Path = ROOT) -> list[str]:
    """Links that lead nowhere, a line each."""
    known = {page: parsed(page) for page in pages(root)}
    anchors = {page: {str(token.attrGet("id")) for token in tokens} for page, tokens in known.items()}
    found = []
    for page, tokens in known.items():
        for token, attribute in _targets(tokens):
            link = str(token.attrGet(attribute))
            target, anchor = _led(page, link)
            if not target.exists() or not target.is_relative_to(root):
                found.append(f"{page.relative_to(root)}: {link} leads to no file of the checkout")
            elif anchor and anchor not in anchors.get(target, ()):
                found.append(f"{page.relative_to(root)}: {link} leads to no heading")
    return found


def build(out: Path, root: Path = ROOT) -> None:
    """Write every page as HTML.

    Args:
        out: folder below the checkout; a page lies in it as it lies in the checkout.
        root: of the checkout.
    """
    known = pages(root)
    written = {page: (out / page.relative_to(root)).with_suffix(".html") for page in known}
    for page in known:
        tokens, place = parsed(page), written[page].parent
        for token, attribute in _targets(tokens):
            target, anchor = _led(page, str(token.attrGet(attribute)))
            link = os.path.relpath(written.get(target, target), place)
            token.attrSet(attribute, f"{link}#{anchor}" if anchor else link)
        renderer = MarkdownIt("commonmark").enable("table")
        body = renderer.renderer.render(tokens, renderer.options, {})
        index = os.path.relpath(written[root / "docs" / "index.md"], place)
        place.mkdir(parents=True, exist_ok=True)
        title = html.escape(f"vvsbench: {page.relative_to(root)}")
        written[page].write_text(TEMPLATE.format(title=title, index=index, body=body), encoding="utf-8")


def main() -> int:
    """Check and build.

    Returns:
        0, or 1 when a link leads nowhere.
    """
    if found := broken():
        print("\n".join(found), file=sys.stderr)
        return 1
    out = ROOT / "outputs" / "docs"
    build(out)
    print(f"{len(pages())} pages: {out / 'docs' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
