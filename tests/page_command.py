"""``regaze page`` as a user types it, and what its pages are asked."""

from typer.testing import CliRunner

from regaze.cli import app

# Where the canvas is red, in its own pixels, and a sum over all of it.
IRISES = """(() => {
  const canvas = document.querySelector("canvas"), context = canvas.getContext("2d");
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  let x = 0, y = 0, all = 0, sum = 0;
  for (let at = 0; at < data.length; at += 4) {
    const red = Math.max(0, data[at] - 60 - 1.5 * Math.max(data[at + 1], data[at + 2]));
    x += red * ((at / 4) % canvas.width);
    y += red * Math.floor(at / 4 / canvas.width);
    all += red;
    sum += data[at] * ((at / 4) % 97);
  }
  return [x / all, y / all, sum];
})()"""
READY = "document.documentElement.dataset.ready"
ASKED = 'document.querySelector("canvas").dataset.asked'


def run(*arguments):
    return CliRunner().invoke(app, ["page", *map(str, arguments)])


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments):
    result = run(*arguments)
    assert result.exit_code == 1 and "Traceback" not in result.output, result.output
    return result.output
