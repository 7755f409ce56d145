"""Keyed noise beside a slow loop, and a secret's file in every state it should not be in."""

import hashlib
import hmac
import json
import stat
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from linkage_core.errors import InputError
from linkage_core.release.keyed import Secret, image_key

IMAGES = [bytes([i]) * 32 for i in range(6)]


@pytest.fixture
def secret() -> Secret:
    return Secret(bytes(range(32)), "cohort-a")


def slow(secret: Secret, purpose: str, image: bytes, n: int) -> list[float]:
    """One number at a time, from the definition."""
    message = b""
    for part in (purpose, secret.cohort):
        message += len(part.encode()).to_bytes(8, "big") + part.encode()
    stream = hashlib.shake_256(hmac.new(secret.key, message + image, hashlib.sha256).digest()).digest(8 * n)
    words = [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(n)]
    return [((word >> 12) + 0.5) / 2**52 for word in words]


def test_uniforms_equal_the_slow_loop(secret: Secret) -> None:
    found = secret.uniforms("cap", IMAGES, 5)
    assert found.tolist() == [slow(secret, "cap", image, 5) for image in IMAGES]
    assert secret.uniforms("cap", [], 3).shape == (0, 3)
    with pytest.raises(InputError, match="n is 0"):
        secret.uniforms("cap", IMAGES, 0)


def test_a_row_depends_on_its_image_alone(secret: Secret) -> None:
    found = secret.uniforms("cap", IMAGES, 7)
    assert (secret.uniforms("cap", IMAGES[::-1], 7)[::-1] == found).all()
    assert (secret.uniforms("cap", IMAGES[2:3], 7) == found[2]).all()
    assert (secret.uniforms("cap", IMAGES, 3) == found[:, :3]).all()


def test_purpose_cohort_key_and_image_each_change_the_noise(secret: Secret) -> None:
    others = [
        secret.uniforms("caq", IMAGES[:1], 4),
        secret.uniforms("cap", IMAGES[1:2], 4),
        Secret(secret.key, "cohort-b").uniforms("cap", IMAGES[:1], 4),
        Secret(bytes(32), "cohort-a").uniforms("cap", IMAGES[:1], 4),
        Secret(secret.key, "acohort-a").uniforms("cap"[:-1], IMAGES[:1], 4),
        secret.uniforms("cap", IMAGES[:1], 4),
    ]
    assert len({one.tobytes() for one in others}) == len(others)


def test_uniforms_are_uniform_and_rows_unrelated(secret: Secret) -> None:
    found = secret.uniforms("cap", [i.to_bytes(4, "big") for i in range(4000)], 8)
    assert 0 < found.min() < found.max() < 1
    assert kstest(found.ravel(), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(found.T) - np.eye(8)).max() < 5 / np.sqrt(4000)
    assert abs(np.corrcoef(found[:-1, 0], found[1:, 0])[0, 1]) < 5 / np.sqrt(4000)


def test_a_stream_is_the_keyed_hash_of_purpose_cohort_and_image(secret: Secret) -> None:
    """Record numbers, their order and who is left out rest on it: without the key it would be anybody's to compute."""
    message = b"".join(len(part).to_bytes(8, "big") + part for part in (b"number", b"cohort-a")) + IMAGES[0]
    assert secret.stream("number", IMAGES[0]) == hmac.new(secret.key, message, hashlib.sha256).digest()
    others = [
        secret.stream("numbers", IMAGES[0]),
        secret.stream("number", IMAGES[1]),
        Secret(secret.key, "cohort-b").stream("number", IMAGES[0]),
        Secret(bytes(32), "cohort-a").stream("number", IMAGES[0]),
    ]
    assert len({secret.stream("number", IMAGES[0]), *others}) == 5


def test_generators_repeat_and_differ(secret: Secret) -> None:
    one, again = (secret.generator("draw", IMAGES[0]).random(5) for _ in range(2))
    assert (one == again).all()
    assert len({secret.generator("draw", image).random() for image in IMAGES}) == len(IMAGES)
    assert secret.generator("other", IMAGES[0]).random() != one[0]


def test_a_secret_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.json"
    made = Secret.create(path, "cohort-a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Secret.read(path, "cohort-a") == made
    assert made.key.hex() not in repr(made) + str(made) + made.digest
    assert Secret.create(tmp_path / "second.json", "cohort-a").key != made.key


def test_a_secret_in_the_wrong_place_or_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.json"
    with pytest.raises(InputError, match="There is no secret at"):
        Secret.read(path, "cohort-a")
    Secret.create(path, "cohort-a")
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists"):
        Secret.create(path, "cohort-a")
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="belongs to another cohort"):
        Secret.read(path, "cohort-b")
    with pytest.raises(InputError, match="cannot be written"):
        Secret.create(tmp_path / "nowhere" / "secret.json", "cohort-a")
    with pytest.raises(InputError, match="name is empty"):
        Secret.create(tmp_path / "third.json", "")
    with pytest.raises(InputError, match=r"holds 31 bytes.*needs 32"):
        Secret(bytes(31), "cohort-a")
    path.chmod(0o640)
    with pytest.raises(InputError, match=r"Others may read .*mode 640"):
        Secret.read(path, "cohort-a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "00" * 31}, "31 bytes"),
        ({"key": "no hex"}, "was altered"),
        ({"schema": 1}, "schema 1"),
        ({"cohort": None}, "belongs to another cohort"),
        ({"ledger": "00", "last": "x"}, "was altered"),
        ({"ledger": "00", "last": [1]}, "was altered"),
    ],
)
def test_an_altered_secret_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "secret.json"
    Secret.create(path, "cohort-a")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message) as error:
        Secret.read(path, "cohort-a")
    assert "key" not in str(error.value)
    for text in ("", "[]", "{}", "\x00"):
        path.write_text(text)
        with pytest.raises(InputError, match="not a secret"):
            Secret.read(path, "cohort-a")


def test_an_image_is_its_features_under_its_weights() -> None:
    row = np.array([0.25, -0.0, 3.0], dtype=np.float32)
    key = image_key(row, "w")
    assert len(key) == 32
    assert image_key(row.astype(np.float64), "w") == key
    assert image_key(np.array([0.25, 0.0, 3.0]), "w") == key
    assert image_key(row, "v") != key
    assert image_key(np.nextafter(row, np.float32(9)), "w") != key
    for wrong in (row[None], np.array([1, 2]), np.array([np.nan])):
        with pytest.raises(InputError, match="feature row"):
            image_key(wrong, "w")
    with pytest.raises(InputError, match="weights_sha256 is empty"):
        image_key(row, "")
