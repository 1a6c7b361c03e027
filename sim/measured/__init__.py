"""Energy measured on this machine, by the meters that its hardware offers."""
