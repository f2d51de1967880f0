"""`spamd-admin fleet`: scoring for the spamds of other machines."""

import typer

from spamd.cli.fleet.serve import serve_fleet

app = typer.Typer(no_args_is_help=True, help="Score for the proxies of other machines.")
app.command("serve")(serve_fleet)


@app.callback()
def fleet() -> None:
    """Score for the proxies of other machines."""
