"""`distill push` and `distill pull`: models to and from the Hugging Face Hub."""

from typing import Annotated

import typer

from distill.cli.options import ModelArgument, ModelsDir

Repository = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A repository on the Hugging Face Hub.")]


def push(
    model: ModelArgument,
    repository: Repository,
    public: Annotated[bool, typer.Option("--public", help="Let anybody see a new repository.")] = False,
    models_dir: ModelsDir = None,
) -> None:
    """Share a model on the Hugging Face Hub, with a card; whoever can see it can hear what it has learnt."""
    from distill.cli.console import out
    from distill.home import default_models_dir
    from distill.library.catalog import locate
    from distill.sharing.hub import push as share

    library, entry = locate(model, models_dir or default_models_dir())
    out.print(f"{entry.name} → {share(library.path(entry), repository, public=public)}", markup=False)


def pull(
    repository: Repository,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.", show_default="the newest")] = None,
    models_dir: ModelsDir = None,
) -> None:
    """Fetch a model from the Hugging Face Hub into your library; nothing in it is ever run."""
    from distill.cli.console import out
    from distill.home import default_models_dir
    from distill.sharing.hub import pull as fetch

    path = fetch(repository, models_dir or default_models_dir(), revision=revision)
    out.print(f"{repository} → {path}", markup=False)
