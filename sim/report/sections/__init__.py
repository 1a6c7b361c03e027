"""One file per section of the page; each makes a `Section` of the artifacts."""
