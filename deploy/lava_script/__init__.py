"""A program as a Python script for stock Lava alone: `write.write_lava_script`."""
