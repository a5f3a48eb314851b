"""A model's name leads to a folder, or to a sentence that says what stands in the way and what to do."""

from __future__ import annotations

import errno
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download

from hermes_runtime.checkpoint import hub
from hermes_runtime.checkpoint.context_window import stated_context_window
from hermes_runtime.checkpoint.hub import TINY_FOLDER, find_folder, find_local_folder, weigh_download
from hermes_runtime.errors import CheckpointError, HermesError, ModelNotFoundError
from tests.support.fake_hub import CONFIG, GOOD, HubModel, failing_models, use_hub

NEXT_COMMIT = "0" * 39 + "2"


# What is found


def test_a_model_is_downloaded_once_and_only_what_is_read_of_it(fake_hub):
    files = {
        "config.json": CONFIG,
        "tokenizer.json": b"{}",
        "tokenizer.model": b"-",
        "model.safetensors": bytes(1000),
        "consolidated.safetensors": b"the same weights again",
        "pytorch_model.bin": b"-",
        "modeling_evil.py": b"-",
        "onnx/config.json": b"-",
        "README.md": b"-",
    }
    fake_hub.models[GOOD] = HubModel(files)
    folder = find_folder(GOOD)
    read = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer.model"]
    assert sorted(path.name for path in folder.iterdir()) == read
    assert (folder / "model.safetensors").read_bytes() == bytes(1000)
    assert sorted(fake_hub.files_sent()) == read
    fake_hub.asked.clear()
    assert find_folder(GOOD) == folder
    assert fake_hub.asked == [f"GET /api/models/{GOOD}"], "the hub is asked what is new, and for nothing else"


def test_a_new_commit_is_fetched_without_what_did_not_change(fake_hub):
    first = find_folder(GOOD)
    files = {"config.json": CONFIG, "model.safetensors": bytes(88)}
    fake_hub.models[GOOD] = HubModel(files, commit=NEXT_COMMIT)
    fake_hub.asked.clear()
    second = find_folder(GOOD)
    assert second != first
    assert fake_hub.files_sent() == ["model.safetensors"]
    assert find_local_folder(GOOD) == second


def test_without_weights_the_small_files_come_alone_and_the_weights_later(fake_hub):
    small = find_folder(GOOD, weights=False)
    assert [path.name for path in small.iterdir()] == ["config.json"]
    assert find_local_folder(GOOD, weights=False) == small
    assert find_local_folder(GOOD) is None
    assert (find_folder(GOOD) / "model.safetensors").is_file()
    assert find_local_folder(GOOD) == small


@pytest.mark.parametrize("failure", ["offline", *failing_models()])
def test_what_the_hub_gave_earlier_is_used_when_it_fails(fake_hub, failure, monkeypatch, caplog):
    folder = find_folder(GOOD)
    if failure == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        fake_hub.models[GOOD] = replace(fake_hub.models[failure], commit=NEXT_COMMIT)
    with caplog.at_level(logging.INFO, logger=hub.__name__):
        assert find_folder(GOOD) == folder
    assert str(folder) in caplog.text


def test_an_interrupted_download_goes_on_where_it_stopped(fake_hub):
    shards = {f"model-0000{n}-of-00002.safetensors": bytes(100 + n) for n in (1, 2)}
    fake_hub.models[GOOD] = HubModel({"config.json": CONFIG, **shards}, act="shorten")
    with pytest.raises(ModelNotFoundError, match="try again, files that are complete are not fetched twice"):
        find_folder(GOOD)
    assert find_local_folder(GOOD) is None, "half a model is none"
    fake_hub.models[GOOD].act = ""
    fake_hub.asked.clear()
    assert len(list(find_folder(GOOD).iterdir())) == 3
    assert "config.json" not in fake_hub.files_sent()


def test_the_size_of_a_download_is_that_of_its_weights(fake_hub):
    assert weigh_download(GOOD) == 99
    assert fake_hub.files_sent() == []


def test_names_that_need_no_hub(tmp_path):
    (tmp_path / "config.json").write_bytes(CONFIG)
    assert find_folder("tiny-hermes") == find_local_folder("tiny-hermes") == TINY_FOLDER
    assert find_folder(str(tmp_path)) == find_local_folder(str(tmp_path)) == tmp_path


# The stated context window


def test_the_stated_window_never_asks_the_hub(fake_hub):
    assert stated_context_window(GOOD) is None
    find_folder(GOOD, weights=False)
    fake_hub.asked.clear()
    assert stated_context_window(GOOD) == 4096
    assert fake_hub.asked == []


@pytest.mark.parametrize("name", ["", "a/b/c", "./nowhere", "~/x", "~nobody/x", "x" * 5000, "a\0b", "a--b/c", __file__])
def test_a_name_without_a_window_has_none(name):
    assert stated_context_window(name) is None


# What is not found


MEANINGS = {
    "bad/none": r"no such model on the hub http://127.*hf auth login.*HF_TOKEN",
    "bad/gated": r"'bad/gated' is gated: accept its licence at http://127.*/bad/gated, then .*hf auth login.*HF_TOKEN",
    "bad/disabled": "disabled on the hub",
    "bad/token": r"refuses the token.*401.*hf auth login",
    "bad/forbidden": r"refuses the token.*403.*with rights to 'bad/forbidden'",
    "bad/crowded": r"429.*wait",
    "bad/down": r"fails with status 503; try later, or give a local folder",
    "bad/silent": r"cannot be reached: no answer within 1 s.*HF_HUB_ETAG_TIMEOUT",
    "bad/gone": "could not be downloaded: Server disconnected.*try again",
    "bad/portal": "could not be downloaded.*try again",
    "bad/dataset": r"it has no config\.json",
    "bad/pickled": r"no \*\.safetensors on the hub but pytorch_model\.bin",
    "bad/short": "could not be downloaded.*should be of size 77.*files that are complete are not fetched twice",
}


@pytest.mark.parametrize("ask", [find_folder, weigh_download])
@pytest.mark.parametrize(("model", "meaning"), MEANINGS.items())
@pytest.mark.usefixtures("fake_hub")
def test_what_the_hub_answers_becomes_a_sentence(ask, model, meaning):
    if ask is weigh_download and model == "bad/short":
        assert weigh_download(model) == 77  # only the download itself finds out
        return
    with pytest.raises((ModelNotFoundError, CheckpointError), match=meaning) as caught:
        ask(model)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, CheckpointError) == (model == "bad/pickled")


def closed_port(fake_hub, monkeypatch, cache):
    use_hub(monkeypatch, "http://127.0.0.1:9", cache)


def offline(fake_hub, monkeypatch, cache):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def proxy_that_refuses(fake_hub, monkeypatch, cache):
    use_hub(monkeypatch, "https://hub.invalid", cache)
    monkeypatch.setenv("HTTPS_PROXY", fake_hub.address)


def no_proxy_at_all(fake_hub, monkeypatch, cache):
    use_hub(monkeypatch, "https://hub.invalid", cache)
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://")


def no_address(fake_hub, monkeypatch, cache):
    use_hub(monkeypatch, "hub.invalid", cache)


def no_home(fake_hub, monkeypatch, cache):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")


def no_right_to_write(fake_hub, monkeypatch, cache):
    cache.write_text("a file, which not even root can write folders to")


def no_room_for_it(fake_hub, monkeypatch, cache):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=50))


WAYS = [
    (
        closed_port,
        r"cannot be reached \(.*refused.*\); check the network, HTTPS_PROXY and HF_ENDPOINT, or give a local",
    ),
    (offline, "HF_HUB_OFFLINE is set, so that the hub is not asked; unset it, or give a local folder"),
    (proxy_that_refuses, "the proxy refuses.*407.*HTTPS_PROXY"),
    (no_proxy_at_all, "could not be downloaded: .*proxy"),
    (no_address, "could not be downloaded: .*protocol"),
    (no_home, "no home folder to download to; set HF_HOME"),
    (no_right_to_write, "cannot be written.*set HF_HOME"),
    (no_room_for_it, r"needs 0\.00 GB and 0\.00 GB are free in .*HF_HOME"),
]


@pytest.mark.parametrize("ask", [find_folder, weigh_download])
@pytest.mark.parametrize(("break_it", "meaning"), WAYS)
def test_what_stands_in_the_way_becomes_a_sentence(ask, break_it, meaning, fake_hub, monkeypatch, tmp_path):
    break_it(fake_hub, monkeypatch, tmp_path / "cache")
    with pytest.raises(ModelNotFoundError, match=meaning) as caught:
        ask(GOOD)
    assert "\n" not in str(caught.value)
    huggingface_hub.close_session()


@pytest.mark.parametrize(
    ("number", "meaning"),
    [
        (errno.ENOSPC, r"the disk of the cache .*cache is full; free some, or set HF_HOME"),
        (errno.EDQUOT, "is full"),
        (errno.EROFS, r"cannot be written \(/there\); set HF_HOME"),
        (errno.EIO, "could not be downloaded"),
    ],
)
def test_a_disk_that_fails_during_the_download(fake_hub, monkeypatch, number, meaning):
    def fail(*_, **__):
        raise OSError(number, "no", "/there")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(ModelNotFoundError, match=meaning):
        find_folder(GOOD)


def test_weights_that_are_lacking_offline_are_named(fake_hub, monkeypatch):
    find_folder(GOOD, weights=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match=r"holds no weights of 'good/model', and HF_HUB_OFFLINE"):
        find_folder(GOOD)


@pytest.mark.parametrize("name", ["", "./nowhere", "~/nowhere", "~nobody/x", "a/b/c", "with blanks", "x@main", "a\0b"])
def test_a_name_that_is_neither_folder_nor_id(name, fake_hub):
    for ask in (find_folder, find_local_folder):
        with pytest.raises(ModelNotFoundError, match=re.escape(repr(name))):
            ask(name)
    assert fake_hub.asked == []


@pytest.mark.parametrize("name", ["a--b/c", "x-", "a/b.git", "ä/ö", "x" * 300])
@pytest.mark.usefixtures("fake_hub")
def test_an_id_that_no_hub_can_have(name):
    with pytest.raises(ModelNotFoundError, match="no such model on the hub"):
        find_folder(name)
    assert find_local_folder(name) is None


def test_a_certificate_that_is_not_trusted_names_the_setting(monkeypatch):
    class ConnectError(Exception):
        """As httpx and httpx2 call it."""

    def fail(*_, **__):
        raise ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate in chain")

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(model_info=fail))
    with pytest.raises(HermesError, match="check SSL_CERT_FILE"):
        find_folder(GOOD)


def test_ctrl_c_leaves_no_half_file(fake_hub, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(file_download, "http_get", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_folder(GOOD)
    cache = Path(constants.HF_HUB_CACHE)
    assert not [path for path in cache.rglob("*") if "incomplete" in path.name]
