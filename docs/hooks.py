"""Hooks of MkDocs: links out of docs/ lead to the repository, and GLOSSARY.md, which is not in docs/, becomes a page."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
log = get_plugin_logger("repository")


def on_files(files: Files, config: Any) -> Files:
    """Add GLOSSARY.md as a page."""
    glossary = (ROOT / "GLOSSARY.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "reference/glossary.md", content=glossary))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Turn relative links out of docs/, such as to ablate/contract.py, into links to the repository."""
    folder = posixpath.dirname(f"docs/{page.file.src_uri}")

    def outside(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link[1]))
        if path == "GLOSSARY.md":
            up = "../" * page.file.src_uri.count("/")
            return f"]({up}reference/glossary.md{link[2] or ''})"
        inside = files.get_file_from_path(path.removeprefix("docs/")) if path.startswith("docs/") else None
        if inside and inside.inclusion.is_included():
            return link[0]
        if not (ROOT / path).exists():
            log.warning(f"{page.file.src_uri} links to {link[1]}, which does not exist")
        return f"]({config.extra['repository']}/blob/main/{path}{link[2] or ''})"

    return LINK.sub(outside, markdown)
