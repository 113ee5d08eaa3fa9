"""Properties: keys, values and sources (DESIGN section 8)."""

from __future__ import annotations

import itertools
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfs.config import DEFAULTS_FILE, PROPERTIES, Settings, parse_properties, render_duration, render_size
from rayfs.errors import InvalidProperty

WRITE_TYPE = "rayfs.user.file.writetype.default"
DURABLE = "rayfs.user.file.replication.durable"
BLOCK_SIZE = "rayfs.user.block.size.bytes.default"
WAIT = "rayfs.user.file.persistence.initial.wait.time"
ENDPOINT = "rayfs.underfs.s3.endpoint"


def load(
    tmp_path: Path, text: str = "", env: dict[str, str] | None = None, given: dict[str, object] | None = None
) -> Settings:
    (tmp_path / "rayfs.yaml").write_text(text)
    return Settings.load(given, conf_dir=tmp_path, env=env or {})


def value_of(key: str, value: object) -> object:
    return parse_properties({key: value})[key]


class TestKeys:
    def test_no_key_is_a_prefix_of_another(self) -> None:
        keys = sorted(PROPERTIES)
        assert not [(a, b) for a in keys for b in keys if b.startswith(f"{a}.")]

    def test_every_key_can_be_an_environment_variable(self) -> None:
        assert all(re.fullmatch(r"rayfs(\.[a-z0-9]+)+", key) for key in PROPERTIES)

    def test_the_defaults_file_and_the_table_name_the_same_keys(self) -> None:
        assert set(Settings.load(env={})) == set(PROPERTIES)

    def test_every_default_has_a_comment_that_says_why(self) -> None:
        lines = DEFAULTS_FILE.read_text().splitlines()
        keyed = [(above, line) for above, line in itertools.pairwise(lines) if line.startswith("rayfs.")]
        assert len(keyed) == len(PROPERTIES)
        assert not [line for above, line in keyed if not above.startswith("# ") or above.startswith("# ---")]

    def test_only_user_keys_belong_to_the_client(self) -> None:
        assert {key for key, known in PROPERTIES.items() if known.scope == "client"} == {
            key for key in PROPERTIES if key.startswith("rayfs.user.")
        }

    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("rayfs.user.file.writetype.defualt", WRITE_TYPE),
            ("alluxio.user.file.writetype.default", WRITE_TYPE),
            ("user.file.replication.durable", DURABLE),
            ("RAYFS.USER.FILE.REPLICATION.DURABLE", DURABLE),
        ],
    )
    @pytest.mark.scenario("C3")
    def test_an_unknown_key_names_the_nearest_known_one(self, typed: str, meant: str) -> None:
        with pytest.raises(InvalidProperty, match=f"the nearest is {re.escape(meant)}"):
            parse_properties({typed: "x"})


class TestValues:
    @pytest.mark.parametrize(
        ("text", "size"), [("64MB", 64 << 20), ("1kb", 1024), ("2 GB", 2 << 30), ("1.5MB", 3 << 19), (4096, 4096)]
    )
    def test_sizes_are_powers_of_1024(self, text: object, size: int) -> None:
        assert value_of(BLOCK_SIZE, text) == size

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("500ms", 0.5), ("30s", 30), ("2m", 120), ("1h", 3600), ("1d", 86400), ("0", 0), (2.5, 2.5)],
    )
    def test_durations_are_seconds(self, text: object, seconds: float) -> None:
        assert value_of(WAIT, text) == seconds

    @pytest.mark.parametrize("never", [-1, "-1", -1.0, None])
    def test_a_duration_of_minus_one_is_never(self, never: object) -> None:
        assert value_of(WAIT, never) is None

    def test_minus_one_is_no_limit_where_the_key_takes_it(self) -> None:
        assert value_of("rayfs.persist.bandwidth", "-1") == -1
        assert value_of("rayfs.user.file.replication.max", -1) == -1

    def test_choices_may_be_written_in_lower_case(self) -> None:
        assert value_of(WRITE_TYPE, "must_cache") == "MUST_CACHE"

    @pytest.mark.parametrize(
        ("key", "value", "says"),
        [
            (WRITE_TYPE, "SYNC", "one of MUST_CACHE, CACHE_THROUGH, THROUGH, ASYNC_THROUGH"),
            (DURABLE, "two", "a whole number of at least 1"),
            (DURABLE, 0, "of at least 1"),
            (DURABLE, "1.5", "a whole number"),
            (DURABLE, "-1", "of at least 1"),
            (DURABLE, True, "a whole number"),
            (DURABLE, "inf", "a whole number"),
            (DURABLE, None, "a whole number"),
            (BLOCK_SIZE, "64MiB", "a size such as 64MB"),
            (BLOCK_SIZE, "6TB", "from 1KB to 5GB"),
            (BLOCK_SIZE, "-1", "from 1KB to 5GB"),
            (BLOCK_SIZE, "1.0001KB", "a size such as"),
            (BLOCK_SIZE, "", "a size such as"),
            (WAIT, "30", "a duration such as 500ms, 30s or 2h of at least 0s, or -1 for never"),
            (WAIT, "5 weeks", "a duration"),
            ("rayfs.user.file.write.wait.max", "-1", "of at least 0s"),
            ("rayfs.worker.store.share", "0.9", "a number from 0.01 to 0.8"),
            ("rayfs.worker.store.share", "nan", "a number"),
            ("rayfs.worker.on.head", "perhaps", "true or false"),
            ("rayfs.persist.part.size.bytes", "1MB", "from 5MB to 5GB"),
        ],
    )
    @pytest.mark.scenario("C3")
    def test_a_wrong_value_says_what_the_key_takes(self, key: str, value: object, says: str) -> None:
        with pytest.raises(InvalidProperty, match=re.escape(says)) as raised:
            parse_properties({key: value})
        assert key in str(raised.value)

    @pytest.mark.parametrize("key", [ENDPOINT, "rayfs.master.mount.table.root.ufs", "rayfs.master.metastore.uri"])
    def test_a_url_with_credentials_is_refused_without_repeating_them(self, key: str) -> None:
        with pytest.raises(InvalidProperty, match="without credentials") as raised:
            parse_properties({key: "https://someone:pass-word@host/x"})
        assert "pass-word" not in str(raised.value)

    def test_an_optional_text_may_be_empty(self) -> None:
        assert value_of(ENDPOINT, "") is None
        assert value_of(ENDPOINT, None) is None

    @pytest.mark.parametrize("key", sorted(PROPERTIES))
    def test_a_default_that_is_shown_can_be_typed_again(self, key: str) -> None:
        default = Settings.load(env={})[key]
        assert value_of(key, PROPERTIES[key].render(default)) == default

    @given(st.integers(1 << 10, 5 << 30))
    def test_a_shown_size_is_the_same_size(self, size: int) -> None:
        assert value_of(BLOCK_SIZE, render_size(size)) == size

    @given(st.integers(0, 10**9))
    def test_a_shown_duration_is_the_same_duration(self, milliseconds: int) -> None:
        seconds = milliseconds / 1000
        assert value_of(WAIT, render_duration(seconds)) == pytest.approx(seconds, rel=1e-9)


class TestSources:
    def test_a_later_source_wins(self, tmp_path: Path) -> None:
        text = f"{WRITE_TYPE}: THROUGH\n{DURABLE}: 2\n{BLOCK_SIZE}: 1MB\n"
        env = {"RAYFS__USER__FILE__REPLICATION__DURABLE": "3", "RAYFS__USER__BLOCK__SIZE__BYTES__DEFAULT": "2MB"}
        settings = load(tmp_path, text, env, {BLOCK_SIZE: "4MB"})
        found = [(settings[key], settings.origin(key)) for key in (WRITE_TYPE, DURABLE, BLOCK_SIZE, WAIT)]
        assert found == [("THROUGH", "file"), (3, "environment"), (4 << 20, "flag"), (0.0, "default")]

    def test_keys_in_a_file_may_be_nested_or_dotted(self, tmp_path: Path) -> None:
        settings = load(
            tmp_path, "rayfs:\n  user.file:\n    replication:\n      durable: 3\n    writetype.default: THROUGH\n"
        )
        assert (settings[DURABLE], settings[WRITE_TYPE]) == (3, "THROUGH")

    def test_a_key_given_nested_and_dotted_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidProperty, match="given twice"):
            load(tmp_path, f"{DURABLE}: 2\nrayfs.user:\n  file.replication.durable: 3\n")

    @pytest.mark.parametrize("text", ["${oc.env:HOME}", "${", "a${b}c", "${x:${y}}", "$HOME", "%h"])
    def test_values_are_taken_literally(self, tmp_path: Path, text: str) -> None:
        settings = load(tmp_path, f"{ENDPOINT}: 'http://{text}'\n", {"RAYFS__UNDERFS__S3__REGION": text})
        assert settings[ENDPOINT] == f"http://{text}"
        assert settings["rayfs.underfs.s3.region"] == text

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("- a\n- b\n", "not a list"),
            (f"{DURABLE}: [", "not a YAML file"),
            (f"{DURABLE}: 2\n{DURABLE}: 3\n", "duplicate key"),
            (f"{DURABLE}: many\n", "a whole number"),
            (f"{WAIT}: 30\n", "a duration such as"),
            ("rayfs.user.typo: 1\n", "the nearest is"),
            (f"{DURABLE}:\n  deeper: 1\n", "there is no property"),
        ],
    )
    def test_a_bad_file_is_named_with_what_is_wrong(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(InvalidProperty, match=says) as raised:
            load(tmp_path, text)
        assert str(tmp_path / "rayfs.yaml") in str(raised.value)

    def test_the_directory_comes_from_the_environment(self, tmp_path: Path) -> None:
        (tmp_path / "rayfs.yaml").write_text(f"{DURABLE}: 2\n")
        assert Settings.load(env={"RAYFS_CONF_DIR": str(tmp_path)})[DURABLE] == 2

    def test_a_directory_without_a_file_changes_nothing(self, tmp_path: Path) -> None:
        assert Settings.load(conf_dir=tmp_path, env={}) == Settings.load(env={})

    def test_a_directory_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidProperty, match="not a directory"):
            Settings.load(env={"RAYFS_CONF_DIR": str(tmp_path / "missing")})

    def test_a_bad_environment_variable_is_named(self) -> None:
        with pytest.raises(InvalidProperty, match=r"RAYFS__USER__TYPO.*the nearest is"):
            Settings.load(env={"RAYFS__USER__TYPO": "1"})

    def test_other_environment_variables_are_left_alone(self) -> None:
        assert Settings.load(env={"RAYFS_ADDRESS": "x", "RAYFS_STATE_DIR": "y"}) == Settings.load(env={})


class TestSettings:
    def test_users_values_are_split_into_defaults_and_overrides(self, tmp_path: Path) -> None:
        settings = load(tmp_path, f"{DURABLE}: 2\n", given={WRITE_TYPE: "THROUGH"})
        assert settings.user_overrides() == {WRITE_TYPE: "THROUGH"}
        assert settings.user_defaults()[DURABLE] == 2
        assert WRITE_TYPE not in settings.user_defaults()
        assert not [key for key in settings.cluster() if key.startswith("rayfs.user.")]
        assert len(settings.cluster()) + len(settings.user_defaults()) + 1 == len(settings)

    def test_settings_survive_pickling(self, tmp_path: Path) -> None:
        settings = load(tmp_path, f"{DURABLE}: 2\n")
        again = pickle.loads(pickle.dumps(settings))  # noqa: S301  # bytes of our own
        assert again == settings
        assert again.origin(DURABLE) == "file"

    def test_settings_cannot_be_changed(self) -> None:
        settings = Settings.load(env={})
        with pytest.raises(TypeError):
            settings[DURABLE] = 3  # type: ignore[index]  # what the test is about

    def test_reading_an_unknown_key_is_an_error_and_not_a_missing_value(self) -> None:
        with pytest.raises(InvalidProperty, match=f"the nearest is {re.escape(DURABLE)}"):
            Settings.load(env={})["rayfs.user.file.replication.durabel"]
