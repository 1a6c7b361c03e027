"""report.html: one page, of what the artifacts of a folder say, that needs no network."""
