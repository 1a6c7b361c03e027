"""lava-dl's `.net` files (HDF5): `read.lower_net` makes a program of one, `write.write_net` one of a program."""
