import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from noise_wav import wav

pytest.importorskip("starlette", reason="the extra serve is not installed")
from starlette.testclient import TestClient

from espnet_ensemble.serving.api import Limits, create_app
from espnet_ensemble.serving.recordings import read_recording

URL = "/v1/audio/transcriptions"


@pytest.fixture
def client(transcribers):
    yield from serve(transcribers)


def serve(transcribers, **limits):
    app = create_app(transcribers, Limits(**limits))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def post(client, content=None, url=URL, **fields):
    content = wav(1.0) if content is None else content
    data = {
        "timestamp_granularities[]" if k == "granularities" else k: v
        for k, v in fields.items()
    }
    return client.post(url, files={"file": ("speech.wav", content)}, data=data)


def expect_error(response, status, *parts):
    error = response.json()["error"]
    assert response.status_code == status, error
    assert set(error) == {"message", "type", "param", "code"}
    for part in parts:
        assert part in error["message"]
    assert "/" not in error["message"].replace("multipart/form-data", "")
    return error


def test_a_transcript_is_what_the_model_makes_of_the_recording(client, transcribers):
    recording = read_recording(wav(1.0), 16000)
    (expected,) = transcribers[0].transcribe([recording])
    assert expected.text
    response = post(client)
    assert response.json() == {
        "text": expected.text,
        "usage": {"type": "duration", "seconds": 1.0},
    }
    assert post(client, response_format="text").text == f"{expected.text}\n"


def test_several_models_are_chosen_by_name(client, transcribers):
    texts = [post(client, model=x.name).json()["text"] for x in transcribers]
    assert texts[0] != texts[1]
    assert post(client, model="whisper-1").json()["text"] == texts[0]
    expect_error(post(client, model="other"), 404, "sure, trained_without", "'other'")


def test_models_are_listed(client):
    listed = client.get("/v1/models").json()["data"]
    assert [model["id"] for model in listed] == ["sure", "trained_without"]
    assert len(listed[0]["upstreams"]) == 2
    assert client.get("/v1/models/sure").json() == listed[0]
    expect_error(client.get("/v1/models/none"), 404)


def test_verbose_json_has_segments_and_words_as_asked_for(client):
    answer = post(client, response_format="verbose_json", language="en").json()
    assert answer["language"] == "en" and answer["duration"] == 1.0
    assert "words" not in answer
    assert answer["segments"][0]["text"] == answer["text"]
    both = ["word", "segment"]
    answer = post(client, response_format="verbose_json", granularities=both).json()
    assert [x["word"] for x in answer["words"]] == answer["text"].split()
    for word in answer["words"]:
        assert 0 <= word["start"] < word["end"] <= 1 and 0 <= word["confidence"] <= 1
    answer = post(client, response_format="verbose_json", granularities="word").json()
    assert "segments" not in answer


def test_subtitles(client):
    assert post(client, response_format="srt").text.startswith("1\n00:00:00,")
    assert post(client, response_format="vtt").text.startswith("WEBVTT\n")


def test_any_rate_and_any_number_of_channels(client):
    answer = post(client, wav(1.0, fs=44100, channels=2)).json()
    assert answer["usage"]["seconds"] == pytest.approx(1.0)


def test_a_prompt_raises_hot_words_in_its_request_alone(client):
    unsure = "trained_without"
    before = post(client, model=unsure).json()["text"]
    raised = post(client, model=unsure, prompt="ABC, ca b").json()["text"]
    assert raised != before
    assert post(client, model=unsure).json()["text"] == before


@pytest.mark.parametrize(
    "fields, parts",
    [
        ({"response_format": "xml"}, ["verbose_json", "'xml'"]),
        ({"granularities": "word"}, ["verbose_json"]),
        ({"response_format": "verbose_json", "granularities": "char"}, ["'char'"]),
        ({"prompt": "xylophone"}, ["spell", "'xylophone'"]),
        ({"prompt": "a" * 1001}, ["1000", "1001"]),
    ],
)
def test_wrong_fields_are_refused(client, fields, parts):
    expect_error(post(client, **fields), 400, *parts)


def test_what_is_not_known_is_ignored(client):
    assert post(client, temperature="0.2", stream="false").status_code == 200


def test_a_request_without_a_file_is_refused(client):
    expect_error(client.post(URL, data={"model": "sure"}), 400, "multipart")
    expect_error(client.post(URL, json={"model": "sure"}), 400, "multipart")
    expect_error(client.get(URL), 405)
    expect_error(client.get("/v1/nothing"), 404)


@pytest.mark.parametrize("content", [b"", b"no audio", bytes(10_000), wav(1)[:30]])
def test_what_is_no_audio_is_refused(client, content):
    expect_error(post(client, content), 415, "file: ")


def test_a_playlist_cannot_make_the_server_read_its_files(
    client, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.wav").write_bytes(wav(1.0))
    expect_error(post(client, b"ffconcat version 1.0\nfile secret.wav\n"), 415)


def test_very_short_audio_is_refused(client):
    expect_error(post(client, wav(0.05)), 422, "0.1 s")


def test_silence_is_no_error(client):
    assert post(client, wav(0.5)[:44] + bytes(16000)).status_code == 200


def test_large_files_and_long_recordings_are_refused(transcribers):
    for client in serve(transcribers, megabytes=0.5, minutes=0.1):
        assert post(client, wav(5)).status_code == 200
        expect_error(post(client, wav(7)), 413, "0.1 minutes")
        expect_error(post(client, bytes(700_000)), 413, "0.5 MB")

        def without_length():
            for _ in range(100):
                yield bytes(10_000)

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        response = client.post(URL, content=without_length(), headers=headers)
        expect_error(response, 413, "0.5 MB")


class Held:
    """Stands before a transcriber, and waits until it is let go."""

    def __init__(self, transcriber):
        self.go, self.began, self.sizes = threading.Event(), threading.Event(), []
        self._transcriber = transcriber

    def __getattr__(self, name):
        return getattr(self._transcriber, name)

    def transcribe(self, recordings):
        self.sizes.append(len(recordings))
        self.began.set()
        assert self.go.wait(30)
        return self._transcriber.transcribe(recordings)


def test_requests_that_wait_share_a_batch_and_none_gets_anothers_text(transcribers):
    held = Held(transcribers[0])
    contents = [wav(0.5 + 0.1 * seed, seed=seed) for seed in range(5)]
    for client in serve([held]):
        with ThreadPoolExecutor(5) as pool:
            first = pool.submit(post, client, contents[0])
            assert held.began.wait(30)
            others = [pool.submit(post, client, content) for content in contents[1:]]
            while client.get("/health").json()["models"]["sure"]["waiting"] < 4:
                pass
            held.go.set()
            found = [future.result().json()["text"] for future in (first, *others)]
        assert held.sizes == [1, 4]
        assert found == [post(client, content).json()["text"] for content in contents]
    assert len(set(found)) == 5


def test_overload_is_said_at_once(transcribers):
    for limits in ({"requests": 2}, {"queue_minutes": 1 / 60}):
        held = Held(transcribers[0])
        for client in serve([held], **limits):
            with ThreadPoolExecutor(2) as pool:
                first = pool.submit(post, client)
                assert held.began.wait(30)
                second = pool.submit(post, client)
                while client.get("/health").json()["models"]["sure"]["waiting"] < 1:
                    pass
                response = post(client)
                assert expect_error(response, 429, "try again")["code"] == "overloaded"
                assert int(response.headers["Retry-After"]) > 0
                held.go.set()
                assert first.result().status_code == second.result().status_code == 200
            assert post(client).status_code == 200


def test_a_model_that_fails_tells_the_log_why_and_not_the_client(transcribers, caplog):
    held = Held(transcribers[0])
    held.transcribe = lambda recordings: [][1]
    for client in serve([held]):
        expect_error(post(client), 500, "server's log")
        assert client.get("/health").status_code == 200
    assert "IndexError" in caplog.text


def test_what_each_upstream_contributes(client, transcribers):
    url = "/v1/audio/contributions"
    with_all = post(client, model="sure").json()["text"]
    answer = post(client, url=url, model="sure").json()
    names = transcribers[0].model.member_names
    assert [x["name"] for x in answer["upstreams"]] == names
    assert answer["trained_without"] is False
    assert all(x["text"] != with_all for x in answer["upstreams"])
    assert post(client, url=url, model="trained_without").json()["trained_without"]
    # And all of them are there again afterwards.
    assert post(client, model="sure").json()["text"] == with_all
    transcribers[0].model.select_members(names[1:])
    (alone,) = transcribers[0].transcribe([read_recording(wav(1.0), 16000)])
    transcribers[0].model.select_members(names)
    assert answer["upstreams"][0]["text"] == alone.text


def test_no_answer_names_a_path_of_the_server(client, experiments):
    answers = [post(client, response_format=x).text for x in ("json", "verbose_json")]
    answers += [client.get(x).text for x in ("/health", "/v1/models", "/", "/page.js")]
    answers.append(post(client, url="/v1/audio/contributions").text)
    assert not any(str(experiments[0].parent) in answer for answer in answers)


def test_uploads_leave_no_file(client, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert post(client, wav(60.0)).status_code == 200  # more than stays in memory
    assert not list(tmp_path.iterdir())


def test_health_and_limits(client):
    answer = client.get("/health").json()
    assert answer["status"] == "ok"
    assert answer["models"]["sure"] == {"waiting": 0}
    assert answer["limits"] == {"megabytes": 100.0, "minutes": 30.0}


def test_the_page_takes_nothing_from_elsewhere(client):
    for path in ("/", "/page.js", "/page.css"):
        response = client.get(path)
        assert response.status_code == 200
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert "//" not in response.text.replace(
            "https:// and http://localhost", ""
        ).replace("// ", "")


def test_openais_own_client_works(client):
    openai = pytest.importorskip("openai", reason="its client is not installed")
    own = openai.OpenAI(
        api_key="none", base_url="http://testserver/v1", http_client=client
    )
    file = ("speech.wav", wav(1.0))
    expected = post(client).json()["text"]
    create = own.audio.transcriptions.create
    assert create(file=file, model="sure").text == expected
    told = create(
        file=file,
        model="sure",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert " ".join(word.word for word in told.words) == expected
    assert told.segments[0].end <= 1.0
    assert create(file=file, model="sure", response_format="srt").startswith("1\n")
    with pytest.raises(openai.NotFoundError, match="expected sure"):
        create(file=file, model="gpt")
    assert [model.id for model in own.models.list()] == ["sure", "trained_without"]
