"""Lava processes of ours; nothing else may lie here, since Lava executes every file beside a Process."""
