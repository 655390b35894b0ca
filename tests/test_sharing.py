"""Models are shared through the Hugging Face Hub's own client, here with a stand-in for the hub itself."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from distill.errors import HubError, LibraryError, ModelFileError
from distill.library.catalog import ModelLibrary
from distill.library.header import read_header
from distill.models.persistence import describe_model, load_any
from distill.sharing import hub as sharing
from distill.sharing.card import card
from distill.sharing.hub import pull, push
from support.commands import assert_refused, run
from support.hub import TOKEN, Hub, hub_server
from support.models import save_rvq_vae, small_rvq_vae

pytestmark = [
    pytest.mark.usefixtures("narrow_nets"),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),  # the client's own
]
REPOSITORY = "ann/kicks"


@pytest.fixture(scope="module")
def served() -> Iterator[Hub]:
    with hub_server() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
        patch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        )
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # a protocol of its own, for large files
        yield hub


@pytest.fixture
def hub(served: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    served.repositories, served.private, served.claims, served.broken = {}, {}, None, False
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return served


@pytest.fixture
def model(narrow_nets: None, tmp_path: Path) -> Path:
    path = save_rvq_vae(small_rvq_vae(), tmp_path / "models", file_count=12, duration_s=34.0, epochs=2)
    library = ModelLibrary(path.parent)
    about = {"author": "Ann", "licence": "CC0-1.0", "tags": ["drums", "a: [b]"]}
    return describe_model(library, library.entries()[0], **about)


def test_a_model_goes_to_the_hub_and_comes_back_the_same(hub: Hub, model: Path, tmp_path: Path) -> None:
    assert push(model, REPOSITORY) == f"{hub.address}/{REPOSITORY}"
    assert set(hub.repositories[REPOSITORY]) == {"README.md", "config.json", "model.safetensors", "training.png"}
    assert hub.private[REPOSITORY]
    before, after = load_any(model), load_any(pull(REPOSITORY, tmp_path / "other"))
    assert after.metadata == before.metadata
    assert all(torch.equal(a, b) for a, b in zip(before.model.state_dict().values(), after.model.state_dict().values()))
    with pytest.raises(LibraryError, match="in the library already"):
        pull(REPOSITORY, tmp_path / "other")


def test_what_else_is_in_the_repository_says_what_the_model_is(hub: Hub, model: Path) -> None:
    push(model, REPOSITORY, public=True)
    files = hub.repositories[REPOSITORY]
    assert not hub.private[REPOSITORY]
    assert json.loads(files["config.json"])["codebook_size"] == 8
    assert files["training.png"].startswith(b"\x89PNG")
    _, head, text = files["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": "cc0-1.0",
        "library_name": "distill",
        "tags": ["audio", "distill", "vqvae", "drums", "a: [b]"],
    }
    for said in (
        "# Kicks",
        "by Ann",
        "12 sounds, 34 seconds",
        "50% of 8",
        "under CC0-1.0",
        f"distill pull {REPOSITORY}",
    ):
        assert said in text


def test_no_text_in_a_model_becomes_more_than_text_in_its_card(model: Path) -> None:
    header = read_header(model)
    header.metadata.name = "x\n---\n# y <script> [z](javascript:0) `q`"
    header.metadata.licence = 'my own: "words"\nlicense: mit'
    _, head, text = card(header, REPOSITORY).split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "other"
    assert yaml.safe_load(head)["license_name"] == header.metadata.licence
    assert "<script" not in text
    assert "](javascript" not in text.replace("\\[z](javascript", "")
    assert text.lstrip().startswith("# x --- # y ")


def test_a_model_that_is_not_as_it_should_be_is_refused_by_the_checks_of_an_import(hub, model, tmp_path):
    push(model, REPOSITORY)
    files = hub.repositories[REPOSITORY]
    files["model.safetensors"] = files["model.safetensors"].replace(b"distill_model", b"another_model")
    with pytest.raises(ModelFileError, match=rf"^{REPOSITORY}, model.safetensors: not a distill model"):
        pull(REPOSITORY, tmp_path / "other")
    assert not list((tmp_path / "other").glob("*.distill"))


def test_a_file_far_too_large_is_refused_before_it_is_fetched(hub, model, tmp_path):
    push(model, REPOSITORY)
    hub.claims = 1 << 40
    with pytest.raises(HubError, match="no model of distill's is so large"):
        pull(REPOSITORY, tmp_path / "other")


def test_what_the_hub_refuses_is_told_with_what_to_do(hub, model, tmp_path, monkeypatch):
    with pytest.raises(HubError, match="there is no repository 'ann/none'"):
        pull("ann/none", tmp_path)
    with pytest.raises(HubError, match="no name of a repository"):
        pull("ann/kicks/more", tmp_path)
    hub.repositories["ann/empty"], hub.private["ann/empty"] = {}, False
    with pytest.raises(HubError, match=r"has no model\.safetensors"):
        pull("ann/empty", tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_stranger")
    with pytest.raises(HubError, match="hf auth login"):
        push(model, REPOSITORY)
    hub.broken = True
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    with pytest.raises(HubError, match="try again later"):
        push(model, REPOSITORY)


def test_where_the_hub_cannot_be_reached_or_its_client_is_missing_that_is_said(model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(HubError, match="cannot be reached"):
        push(model, REPOSITORY)
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(HubError, match=r"distill-audio\[hub\]"):
        sharing.pull(REPOSITORY, model.parent)


def test_on_the_command_line_a_model_is_described_pushed_and_pulled(hub, model, tmp_path):
    said = run("models", "describe", model, "--author", "Bob", "--tag", "kicks")
    assert said.code == 0, said.err
    assert read_header(model).facts()["author"] == "Bob"
    assert_refused(run("models", "describe", model), 2, "--author")
    said = run("push", model, REPOSITORY)
    assert (said.code, said.out) == (0, f"Kicks → {hub.address}/{REPOSITORY}\n"), said.err
    said = run("pull", REPOSITORY, "--models-dir", tmp_path / "other")
    assert (said.code, said.out) == (0, f"{REPOSITORY} → {tmp_path / 'other' / 'Kicks.distill'}\n"), said.err
    assert_refused(run("pull", "ann/none"), 1, "ann/none")
