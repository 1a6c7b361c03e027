"""What changed between two runs, programs, traces or reports."""
