"""The page in a real browser; skipped where there is none (Debian: chromium,
chromium-driver)."""

import shutil
import socket
import threading

import pytest
from noise_wav import wav

pytest.importorskip("starlette", reason="the extra serve is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra serve is not installed")
webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from espnet_ensemble.serving.api import Limits, create_app  # noqa: E402
from espnet_ensemble.serving.recordings import read_recording  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="needs chromium and chromedriver",
    ),
]


@pytest.fixture(scope="module")
def url(transcribers):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = create_app(transcribers, Limits(megabytes=1.0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    speech = tmp_path_factory.mktemp("microphone") / "speech.wav"
    speech.write_bytes(wav(3.0, fs=48000))
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "autoplay-policy=no-user-gesture-required",
        "use-fake-ui-for-media-stream",
        "use-fake-device-for-media-stream",
        f"use-file-for-fake-audio-capture={speech}",
    ):
        options.add_argument(f"--{argument}")
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options, service)
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, url):
    driver.get(url)
    page = Page(driver)
    page.wait(lambda: page.all("#models input"))
    yield page
    severe = [x for x in driver.get_log("browser") if "blocked" in x["message"].lower()]
    assert not severe  # by the content security policy


class Page:
    """What a person sees and does."""

    def __init__(self, driver):
        self.driver = driver

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def wait(self, condition):
        return WebDriverWait(self.driver, 60).until(lambda _: condition())

    def choose(self, path, content):
        path.write_bytes(content)
        self.one("#file").send_keys(str(path))

    def transcripts(self):
        """What each model said, once all are there."""
        self.wait(lambda: self.one("#legend").is_displayed())
        cards = self.all("#results .card")
        return {
            card.find_element(By.TAG_NAME, "h2").text: [
                word.text for word in card.find_elements(By.CSS_SELECTOR, ".word")
            ]
            for card in cards
        }


def test_a_chosen_file_is_transcribed_by_all_models(page, transcribers, tmp_path):
    page.choose(tmp_path / "speech.wav", wav(2.0))
    recording = read_recording(wav(2.0), 16000)
    expected = {x.name: x.transcribe([recording])[0].text.split() for x in transcribers}
    assert page.transcripts() == expected
    assert page.one("#name").text == "speech.wav"


def test_words_are_coloured_by_confidence_and_differences_marked(page, tmp_path):
    page.choose(tmp_path / "speech.wav", wav(2.0))
    page.transcripts()
    sure, unsure = page.all("#results .card")

    def doubts(card):
        words = card.find_elements(By.CSS_SELECTOR, ".word")
        return [
            float(x.get_attribute("style").split(":")[1].strip(" ;")) for x in words
        ]

    assert sum(doubts(sure)) / len(doubts(sure)) < min(doubts(unsure))
    assert page.all("#results .word.differs")
    backgrounds = {
        x.value_of_css_property("background-color") for x in page.all(".word")
    }
    assert len(backgrounds) > 3


def test_a_click_plays_the_word(page, tmp_path):
    page.choose(tmp_path / "speech.wav", wav(2.0))
    page.transcripts()
    word = page.all("#results .word")[-1]
    start, end = (float(word.get_attribute(f"data-{x}")) for x in ("start", "end"))
    word.click()
    now = "return document.getElementById('audio').currentTime"
    page.wait(lambda: page.driver.execute_script(now) > start)
    page.wait(lambda: page.driver.execute_script("return audio.paused"))
    assert start < page.driver.execute_script(now) < end + 0.5


def test_what_each_upstream_contributes_is_shown_and_explained(page, tmp_path):
    page.choose(tmp_path / "speech.wav", wav(2.0))
    page.transcripts()
    for button in page.all(".contributions"):
        button.click()
    page.wait(lambda: len(page.all(".left-out")) == 2)
    untrained, trained = (x.text for x in page.all(".left-out"))
    assert untrained.count("Without ") == trained.count("Without ") == 2
    assert "words are lost" in untrained
    assert "not trained to do without" in untrained
    assert "not trained to do without" not in trained


def test_the_microphone_is_recorded_and_transcribed(page):
    page.one("#record").click()
    page.wait(lambda: page.one("#record").text == "Stop")
    page.driver.execute_async_script("setTimeout(arguments[0], 2000)")
    page.one("#record").click()
    assert all(page.transcripts().values())
    assert page.one("#record").text == "Record"
    assert page.one("#name").text == "microphone"


def test_what_is_wrong_is_said(page, tmp_path):
    def message():
        return page.wait(lambda: page.one("#message").text)

    page.choose(tmp_path / "notes.wav", b"no audio")
    assert "not audio" in message()
    page.choose(tmp_path / "large.wav", bytes(1_100_000))
    page.wait(lambda: "larger than 1 MB" in message())
    page.one("#prompt").send_keys("xylophone")
    page.choose(tmp_path / "speech.wav", wav(1.0))
    page.wait(lambda: "xylophone" in message())
    assert not page.all("#results .card")


def test_one_of_several_models_can_be_left_out(page, tmp_path):
    page.all("#models input")[1].click()
    page.choose(tmp_path / "speech.wav", wav(1.0))
    assert list(page.transcripts()) == ["sure"]
