"""From a store to a report, and the same statistics for other people's files. Reads, never writes a store.

report.py       builds the whole report and writes its files; start here
document.py     what a report, an analysis and a comparison say: frozen values, and their JSON
words, phrases  numbers, names and sentences as people read them
sections/       cells, effects, ledger, provenance, summary
flags/          what a reviewer would object to, one file per kind of rule
plots/          one file per picture
render/         markdown, HTML, LaTeX, CSV, text for a terminal
outside/        `ablate analyze` and `ablate compare`
export.py       models, predictions and tables taken out

Each knows only those above it in this list, report.py all of them; an import contract holds this.
"""
