"""From a store to a report; `analyze` and `compare` for anybody's files. Reads, never writes a store.

report.py           the whole document, and its files; start here
    cells, effects, ledger, provenance, summary, flags_*    the sections
    plot_*, plots   the pictures
    render, words, csv_tables, templates/    the document as markdown, HTML, LaTeX, CSV
export.py           models, predictions and tables taken out
analyze.py          a results table of any origin (printed by terminal)
    strict_csv          columns by name, out of CSV (delimited), JSON (records), in any number_format and encoding (source_file)
    runs, levels        from rows to what is analysed
analyze_study.py    the same for an Optuna study of any origin
compare.py          prediction files of any origin (read by prediction_files)
"""
