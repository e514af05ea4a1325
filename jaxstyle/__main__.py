"""The program `jaxstyle`, and `python -m jaxstyle`: the command line in a process with huge pages."""

from jaxstyle import huge_pages


def main() -> None:
    """Runs the command line and exits with its code."""
    huge_pages.restart()
    from jaxstyle import cli

    cli.main()


if __name__ == "__main__":
    main()
