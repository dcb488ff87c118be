"""`python -m jaxopt_lab` is the command `jaxopt-lab`."""

from jaxopt_lab.cli import main

if __name__ == "__main__":
    main()
