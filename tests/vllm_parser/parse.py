"""Ask vLLM's own parser about command lines: a JSON list of them on each line of stdin, a line of answers for it.

Runs with the interpreter of a vLLM release. A command line is a list of what follows ``vllm serve``; the answer is null
when the parser takes it, and else what it says.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys


def main() -> None:
    """Build the parser of ``vllm serve`` as the command does, and answer everything that stdin holds.

    What vLLM prints meanwhile goes to stderr.
    """
    # Not at the top: this file is also read where there is no vLLM.
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser(prog="vllm")
    command = ServeSubcommand()
    command.subparser_init(parser.add_subparsers(required=True, dest="subparser"))

    def answer(argv: list[str]) -> str | None:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                command.validate(parser.parse_args(["serve", *argv]))
        except SystemExit:
            return (said.getvalue().strip().splitlines() or ["refused without a word"])[-1]
        except (TypeError, ValueError) as error:
            return str(error)
        return None

    for line in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            answers = [answer(argv) for argv in json.loads(line)]
        print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    main()
