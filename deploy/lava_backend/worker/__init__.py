"""The worker script, alone in its folder, which becomes its first import path."""
