"""Run the tool with `python -m imagebuild`."""

from imagebuild.cli.main import main

main()
