"""From a store to a report; `analyze` and `compare` for anybody's files. Reads, never writes a store.

report.py       the whole document, and its files; start here
    sections/       cells, effects, ledger, provenance, summary: what it says
    flags/          what a reviewer would object to, one file per kind of rule
    plots/          the pictures
    render/         the document as markdown, HTML, LaTeX, CSV and terminal text
    words, phrases  numbers, names and sentences as people read them
export.py       models, predictions and tables taken out
outside/        `analyze` and `compare`: the same statistics for other people's files
"""
