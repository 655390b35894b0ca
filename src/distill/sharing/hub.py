"""Models to the Hugging Face Hub, and from it, through its own client, which is an extra package.

A model from there may be anybody's: it comes as safetensors, and goes through the checks of any imported file.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.errors import HubError, LibraryError, ModelFileError
from distill.library.header import read_header
from distill.library.members import MAX_BYTES
from distill.models.exchange import export_safetensors, import_model
from distill.sharing.card import PICTURE, card
from distill.storage import atomic_write_text, readable_size
from distill.training.picture import draw_model
from distill.training.strict_json import to_json

_MODEL = "model.safetensors"


def push(model_path: Path, repository: str, *, public: bool = False) -> str:
    """Share a model in a repository ("owner/name"), which is created, private unless `public`; returns its address.

    What is there already stays in the repository's history. Raises `HubError`, `ModelFileError`, `StorageError`.
    """
    hub = _client()
    with tempfile.TemporaryDirectory() as temporary, _hub_errors(hub, repository):
        folder = Path(temporary)
        _write_files(model_path, repository, folder)
        api = hub.HfApi()
        address = api.create_repo(repository, private=not public, exist_ok=True)
        files = [hub.CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
        api.create_commit(address.repo_id, files, commit_message="Share a model of distill's")
    return str(address)


def pull(repository: str, models_dir: Path, *, revision: str | None = None) -> Path:
    """Add the model in a repository ("owner/name") to a library; returns its path.

    `revision` is a branch, a tag or a commit. Raises `HubError`, `ModelFileError`, `LibraryError`, `StorageError`.
    """
    hub = _client()
    with tempfile.TemporaryDirectory() as temporary:
        with _hub_errors(hub, repository):
            api = hub.HfApi()
            url = hub.hf_hub_url(repository, _MODEL, revision=revision, endpoint=api.endpoint)
            size = api.get_hf_file_metadata(url=url).size or 0
            if size > MAX_BYTES:
                raise HubError(
                    f"{repository}: its model has {readable_size(size)}", "no model of distill's is so large"
                )
            path = Path(api.hf_hub_download(repository, _MODEL, revision=revision, local_dir=temporary))
        try:
            return import_model(path, models_dir)
        except (LibraryError, ModelFileError) as error:
            raise error.with_reason(error.reason.replace(str(path), f"{repository}, {path.name}")) from error


def _write_files(model_path: Path, repository: str, folder: Path) -> None:
    """Write all files of a repository to a folder."""
    header = read_header(model_path)
    export_safetensors(model_path, folder / _MODEL)
    draw_model(folder / PICTURE, header)
    atomic_write_text(folder / "README.md", card(header, repository))
    settings = {"model_type": header.model_type, "sample_rate": header.sample_rate, **header.settings}
    atomic_write_text(folder / "config.json", json.dumps(to_json(settings), indent=2) + "\n")


def _client() -> Any:
    """The hub's own client; raises `HubError` where it is not installed."""
    try:
        import huggingface_hub.errors
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        remedy = "install it: pip install 'distill-audio[hub]'"
        raise HubError("sharing models needs an extra package", remedy) from error
    disable_progress_bars()
    return huggingface_hub


@contextmanager
def _hub_errors(hub: Any, repository: str) -> Iterator[None]:
    """Turn what the client raises in the body into a `HubError`."""
    known = hub.errors
    try:
        yield
    except known.LocalTokenNotFoundError as error:
        raise HubError("the hub does not know who you are", _LOG_IN) from error
    except known.GatedRepoError as error:
        raise HubError(f"{repository} is open only to those its owner lets in", "ask on its page") from error
    except known.RepositoryNotFoundError as error:
        raise HubError(f"there is no repository {repository!r}, or it is private", _LOG_IN) from error
    except known.EntryNotFoundError as error:
        raise HubError(f"{repository} has no {_MODEL}", "give a repository that `push` made") from error
    except known.HFValidationError as error:
        raise HubError(f"{repository!r} is no name of a repository", "give OWNER/NAME") from error
    except known.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        remedy = _LOG_IN if status in (401, 403) else "try again later"
        raise HubError(f"{repository}: the hub refused ({status})", remedy) from error
    except (known.HTTPError, ConnectionError, TimeoutError, RuntimeError) as error:  # the last from a broken upload
        raise HubError(f"the hub cannot be reached: {error}", "try again when you are online") from error


_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN, with an account that may do this"
