"""The commands that help to set up: `jaxstyle init` writes a settings file, `jaxstyle completion` a shell's script."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cyclopts import App

from jaxstyle.errors import EXIT_OK
from jaxstyle.printing import echo


def register(app: App) -> None:
    """Adds the commands, which describe all commands of the app."""

    @app.command
    def init(output: Path = Path("jaxstyle.toml")) -> int:
        """Write a settings file for --config, with every setting of render as a comment.

        An existing file is not replaced.

        Parameters
        ----------
        output
            The TOML file.
        """
        from jaxstyle import settings_file

        given = app["render"].assemble_argument_collection(parse_docstring=True)
        settings_file.write(output, {one.keys[0]: one.parameter.help or "" for one in given if one.keys})
        echo(f"{output} has all settings, behind #: jaxstyle render photos --config {output}")
        return EXIT_OK

    @app.command
    def completion(shell: Literal["bash", "zsh", "fish"]) -> int:
        """Print the script by which a shell completes commands and flags.

        Parameters
        ----------
        shell
            bash: put `source <(jaxstyle completion bash)` into ~/.bashrc; zsh: write it to a file `_jaxstyle` in a
            folder of $fpath; fish: to ~/.config/fish/completions/jaxstyle.fish.
        """
        print(app.generate_completion(prog_name="jaxstyle", shell=shell))
        return EXIT_OK
