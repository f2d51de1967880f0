"""`spamd-admin model`: the checkpoints on this machine, and the published weights that they can build on."""

import typer

from spamd.cli.model.fetch import fetch_published
from spamd.cli.model.list import list_checkpoints
from spamd.cli.model.promote import promote_checkpoint
from spamd.cli.model.quantise import quantise_checkpoint
from spamd.cli.model.rollback import rollback_checkpoint
from spamd.cli.model.show import show_checkpoint

app = typer.Typer(no_args_is_help=True, help="List, show, promote and roll back checkpoints; fetch published weights.")
app.command("fetch")(fetch_published)
app.command("list")(list_checkpoints)
app.command("show")(show_checkpoint)
app.command("promote")(promote_checkpoint)
app.command("quantise")(quantise_checkpoint)
app.command("rollback")(rollback_checkpoint)
