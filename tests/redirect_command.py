"""``regaze redirect`` as a user types it."""

from typer.testing import CliRunner

from regaze.cli import app


def run(*arguments):
    return CliRunner().invoke(app, ["redirect", *(str(one) for one in arguments)])


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments):
    result = run(*arguments)
    assert result.exit_code not in (0, 2) and "Traceback" not in result.output
    return result.output
