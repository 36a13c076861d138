# A made-up value that looks like a secret, so that the run asks a person about it.
password = "kT9x2LmQ8vRz4WnB7yHc3JpD"
