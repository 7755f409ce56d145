"""The frame: only pages there are, whose cohort is on screen, and report text only where it was asked for."""

import re
import shutil
import tomllib

from PIL import Image
from streamlit.testing.v1 import AppTest

from explorer.drawing.verbatim import verbatim
from explorer.frame import frame, state
from helpers import fixture_store
from linkage_core.store.entry import Store, folder_name
from linkage_core.store.files import write_manifest

from .conftest import ROOT, blocks, buttons, go_to, words


def test_the_menu_has_the_pages_there_are_and_no_other():
    groups = {name: [title for _, title, _ in rows] for name, rows in frame.PAGES.items()}
    measure = ["Risk by pool size", "Missing match", "Who is exposed"]
    protect = ["Mitigation", "Compare mitigations"]
    share = ["Be the attacker", "Report to file", "Methods and words"]
    assert groups == {
        "See": ["Start", "Examples"],
        "Measure": measure,
        "Protect": protect,
        "Share": share,
        "Data": ["Your data"],
    }
    assert all(len(title) <= 20 for titles in groups.values() for title in titles)


def test_what_a_card_says_is_text():
    """Names of cohorts and files are in it, and they are anybody's."""

    def card():
        from explorer.frame.page import problem_card

        problem_card("<b>bold</b>", "<script>alert(1)</script>", "Run `<i>linkage</i>`.")

    (shown,) = (str(node.proto.body) for node in AppTest.from_function(card).run().get("html"))
    for tag in ("<b>bold", "<script", "<i>"):
        assert tag not in shown
    assert "<code>&lt;i&gt;linkage&lt;/i&gt;</code>" in shown


def test_a_synthetic_cohort_says_so_and_has_no_switch(open_page):
    app = open_page()
    said = [m.value for m in app.sidebar.markdown] + blocks(app)
    assert any("Synthetic cohort" in text for text in said)
    assert any("400 studies · 200 simulated patients. Nobody here is real." in text for text in said)
    assert not app.sidebar.toggle


def test_a_real_cohort_shows_its_name_and_hides_text_until_asked(open_page):
    app = open_page(cohort="our-hospital")
    said = [m.value for m in app.sidebar.markdown] + blocks(app)
    assert any("our-hospital" in text for text in said)
    assert not any("Synthetic" in text or "simulated" in text for text in said)
    assert app.sidebar.toggle[0].value is False
    assert app.session_state["text may be shown"] is False
    app.sidebar.toggle[0].set_value(True).run()
    assert app.session_state["text may be shown"] is True


def test_the_switch_is_remembered_for_its_cohort_alone(open_page):
    app = open_page(cohort="our-hospital")
    app.sidebar.toggle[0].set_value(True).run()
    go_to(app, "risk")
    assert app.session_state["text may be shown"] is True
    app.sidebar.selectbox[0].set_value("phantom").run()
    assert not app.sidebar.toggle
    app.sidebar.selectbox[0].set_value("our-hospital").run()
    assert app.sidebar.toggle[0].value is True
    assert app.sidebar.toggle[0].key.endswith("our-hospital")


def test_cohorts_and_models_are_named_for_readers(open_page):
    app = open_page()
    assert app.sidebar.selectbox[0].options == ["Phantom, site A", "our-hospital"]
    assert buttons(app, "start model").options == ["General", "Biomedical", "Clinical", "Radiology"]
    app = open_page(cohort="our-hospital")
    assert buttons(app, "start model").options == ["Radiology", verbatim("hf:ORG/our-model")]


def test_an_unreadable_cohort_counts_as_real(open_page, store_root, tmp_path):
    store = shutil.copytree(store_root, tmp_path / "store")
    for manifest in (store / "phantom").glob("*/manifest.json"):
        manifest.write_text("{")
    app = open_page(store=store)
    assert not app.exception
    assert app.session_state["text may be shown"] is False


def test_towers_that_never_met_are_said_not_to_show_a_risk(open_page, store, entry):
    assert "Not a risk" not in words(open_page(store=store.root))
    content = {name: value for name, value in entry.manifest.items() if name not in ("schema", "versions", "files")}
    content["model"] = {**content["model"], "unpaired": True}
    write_manifest(entry.path, {**content, "keep": set(entry.manifest["files"])})
    said = words(open_page(store=store.root))
    assert "Not a risk" in said
    assert "linkage attack toy/m --release raw-images" in said


def test_a_cohort_or_model_that_is_not_there_is_replaced_in_words(open_page):
    model = "The model that was asked for is not in this cohort: this is Radiology."
    app = open_page(cohort="phantom", model="m0")
    assert model in words(app)
    assert model in words(app.run()), "the address says by now what is shown"
    assert "asked for" not in words(go_to(app, "risk"))
    assert "The cohort that was asked for is not here: this is Phantom, site A." in words(open_page(cohort="elsewhere"))
    app = open_page(cohort="our-hospital", model=folder_name("hf:ORG/our-model"))
    assert "asked for" not in words(open_page()) + words(app)
    app.sidebar.selectbox[0].set_value("phantom").run()
    assert model in words(app)
    buttons(app, "start model").set_value("phantom-general").run()
    assert "asked for" not in words(app)


def test_parameters_are_parsed_strictly():
    assert state._parse("N", "1000") == 1000
    for text in ("", "0", "-1", "1.5", "1e3", "१०", "9" * 12, "10 "):
        assert state._parse("N", text) is None


def test_nothing_of_the_configuration_opens_the_application():
    config = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())
    server = config["server"]
    assert server["address"] == "127.0.0.1"
    assert server["enableXsrfProtection"] is server["enableCORS"] is server["headless"] is True
    assert server["enableStaticServing"] is server["enableAgentApi"] is False
    assert set(server["allowedHosts"]) == {"127.0.0.1", "localhost"}
    assert config["browser"]["gatherUsageStats"] is False
    assert config["client"]["showErrorDetails"] == "none"
    assert config["client"]["toolbarMode"] == "minimal"
    assert config["client"]["showErrorLinks"] is False
    assert config["runner"]["magicEnabled"] is False


def test_the_core_knows_no_streamlit():
    told = re.compile(r"^\s*(import|from) +(streamlit|explorer)\b", re.MULTILINE)
    sources = [path.name for path in (ROOT / "linkage_core").rglob("*.py") if told.search(path.read_text("utf-8"))]
    assert sources == []


def test_the_icon_is_a_local_picture():
    for name in ("icon.png", "logo-light.png", "logo-dark.png"):
        with Image.open(frame.ASSETS / name) as image:
            assert image.format == "PNG"


def test_pairs_to_train_on_are_no_cohort_to_look_at(open_page, store_root, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(store_root, store)
    fixture_store.fill(
        Store(store), fixture_store.cohort("phantom-finetune", 20, synthetic=True, seed=3), "phantom-radiology", 0.5, 5
    )
    app = open_page(store=store, cohort="phantom-finetune")
    assert not app.exception
    assert app.sidebar.selectbox[0].options == ["Phantom, site A", "our-hospital"]
    assert app.sidebar.selectbox[0].value == "phantom"
