"""Keywords and properties of ``connect`` and ``open``."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayfs.client.options import KEYWORDS, ClientOptions, by_key
from rayfs.config import PROPERTIES
from rayfs.core.operations import MetadataLoad
from rayfs.core.options import BLOCK_SIZE, DURABLE, LOAD_TYPE, PERSIST_WAIT, WRITE_TYPE
from rayfs.errors import InvalidProperty


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYFS_CONF_DIR", raising=False)


def test_every_keyword_stands_for_a_property_of_the_client() -> None:
    assert {PROPERTIES[key].scope for key in KEYWORDS.values()} == {"client"}


def test_keywords_and_keys_are_validated_and_typed() -> None:
    given = {"write_type": "through", DURABLE: "3", "block_size": "4MB", "persistence_wait": None}
    assert by_key(given) == {WRITE_TYPE: "THROUGH", DURABLE: 3, BLOCK_SIZE: 4 << 20, PERSIST_WAIT: None}


@pytest.mark.scenario("C3")
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"replication": 3}, "replication_durable"),
        ({"rayfs.user.file.replication.durabel": 3}, DURABLE),
        ({"rayfs.persist.concurrency": 3}, "rayfs start"),
        ({"replication_durable": 0}, DURABLE),
        ({"replication_durable": 3, DURABLE: 2}, "twice"),
    ],
)
def test_a_wrong_option_is_refused_with_what_would_be_right(given: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidProperty, match=says):
        by_key(given)


@pytest.mark.scenario("W16")
def test_the_call_wins_over_the_client_and_the_client_over_files(tmp_path: Path) -> None:
    (tmp_path / "rayfs.yaml").write_text(f"{DURABLE}: 2\n{WRITE_TYPE}: MUST_CACHE\n")
    options = ClientOptions.load(tmp_path, {"replication_durable": 3})
    request = options.of_call({"replication_durable": 4})
    assert request.defaults[WRITE_TYPE] == "MUST_CACHE"
    assert request.overrides[DURABLE] == 4
    assert options.of_call({}).overrides == {DURABLE: 3}
    assert ClientOptions.load(tmp_path, {}).of_call({}).defaults[DURABLE] == 2


@pytest.mark.scenario("W20")
def test_what_was_not_given_is_left_to_the_paths_own_properties() -> None:
    request = ClientOptions.load(None, {}).of_call({})
    assert request.overrides == {}
    assert WRITE_TYPE in request.defaults


def test_a_mapping_of_properties_is_a_configuration_that_keywords_win_over() -> None:
    options = ClientOptions.load({DURABLE: 2, WRITE_TYPE: "THROUGH"}, {"replication_durable": 3})
    assert options.of_call({}).overrides == {DURABLE: 3, WRITE_TYPE: "THROUGH"}


def test_when_the_under_store_is_asked_is_the_clients_choice() -> None:
    assert ClientOptions.load(None, {}).metadata_load is MetadataLoad.ONCE
    assert ClientOptions.load({LOAD_TYPE: "always"}, {}).metadata_load is MetadataLoad.ALWAYS
