import numpy as np
import pytest

from linkage_core.cohorts.registry import KINDS, open_cohort, source_for
from linkage_core.errors import ImageError, InputError


def test_an_unknown_kind_names_the_nearest_and_all():
    with pytest.raises(InputError) as caught:
        open_cohort("fantom", None)
    assert "'fantom'" in caught.value.what
    assert "'phantom'" in caught.value.what
    assert all(kind in caught.value.remedy for kind in KINDS)
    with pytest.raises(InputError) as caught:
        open_cohort("zzz", None)
    assert "mean" not in caught.value.what


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("phantom")])
def test_file_cohorts_need_a_folder(kind, tmp_path):
    for root in (None, tmp_path / "no", tmp_path):
        with pytest.raises(InputError) as caught:
            open_cohort(kind, root)
        assert caught.value.remedy


def test_an_option_the_kind_does_not_have(tmp_path):
    with pytest.raises(InputError, match="no choice of depth"):
        open_cohort("openi", tmp_path, depth=3)


@pytest.mark.parametrize(("kind", "site"), [("phantom", "A"), ("phantom-site-b", "B")])
def test_the_phantom_needs_no_root(kind, site):
    cohort = open_cohort(kind, None, patients=2)
    assert cohort.kind == kind
    assert cohort.synthetic
    assert cohort.records["record_id"].str.startswith(site).all()
    source = source_for({"name": kind, "kind": kind, "root": None, "options": cohort.options})
    row = cohort.records.iloc[0].to_dict()
    assert source.read_report(row["study_id"]) == row["report"]
    assert source.read_image(row).pixels.dtype == np.uint16
    assert source.read_report("nobody") is None
    with pytest.raises(ImageError):
        source.read_image({"record_id": "nobody", "image": ""})


def test_imported_embeddings_have_no_images():
    source = source_for({"name": "mine", "kind": "imported", "root": None, "options": {}}, {"s": "text"})
    assert source.read_report("s") == "text"
    with pytest.raises(ImageError) as caught:
        source.read_image({"record_id": "r", "image": ""})
    assert caught.value.reason == "missing-file"
    assert source_for({"name": "mine", "kind": "imported", "root": None, "options": {}}).read_report("s") is None
