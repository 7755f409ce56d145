"""An argument that is none of its choices."""

import pytest

from linkage_core.errors import InputError
from linkage_core.validate import one_of


def test_choices_and_the_nearest_are_named() -> None:
    one_of("unit", "patient", ("patient", "pair"))
    one_of("hit", None, (None, "study"))
    with pytest.raises(InputError) as caught:
        one_of("unit", "patent", {"patient": 1, "pair": 2})
    assert caught.value.what == "unit is 'patent'. Did you mean 'patient'?"
    assert caught.value.remedy == "It is one of: patient, pair."
    for value in ("site", 7, None, ["x"]):
        with pytest.raises(InputError) as caught:
            one_of("unit", value, iter(("patient", "pair")))
        assert caught.value.what == f"unit is {value!r}.", "nothing comes near"
    with pytest.raises(InputError, match=r"hit is 'x'\. It is one of: None, study\."):
        one_of("hit", "x", (None, "study"))
