"""Your data in the browser: uploads go to this server alone, and what is no array is said in place."""

from playwright.sync_api import expect

from explorer.data import work

from .conftest import settled


def test_an_upload_that_is_no_array_is_a_sentence_and_the_page_goes_on(page_at):
    watched = page_at("/data")
    page = watched.page
    page.get_by_text("Embeddings", exact=True).click()
    settled(page)
    page.get_by_label("Name of the cohort").fill("mine")
    page.get_by_label("Name of the model").fill("own")
    page.get_by_label("Name of the model").press("Enter")
    settled(page)
    expect(page.locator("input[type=file]")).to_have_count(len(work.PARTS))
    contents = {"image": b"\x80\x04 pickled", "text": b"", "records": b"record_id,patient_id,study_id\na,b,c\n"}
    for place, (part, content) in enumerate(contents.items()):
        name = f"{part}.{'csv' if part == 'records' else 'npy'}"
        file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        page.locator("input[type=file]").nth(place).set_input_files(files=[file])
        expect(page.get_by_text(name)).to_be_visible(timeout=30_000)
        settled(page)
    page.get_by_role("button", name="Import them").click()
    expect(page.get_by_role("alert").filter(has_text="image.npy is a PyTorch or pickle file")).to_be_visible(
        timeout=60_000
    )
    expect(page.get_by_text("In the store: fill its lab")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert watched.errors == []
    assert watched.outside() == []
