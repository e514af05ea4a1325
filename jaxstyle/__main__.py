"""`python -m jaxstyle` is `jaxstyle`."""

from jaxstyle.cli import main

if __name__ == "__main__":
    main()
