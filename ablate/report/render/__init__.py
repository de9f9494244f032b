"""The finished report as markdown, HTML, LaTeX, CSV and text for a terminal."""
